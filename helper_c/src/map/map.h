/* Mapping itself; see pilotage/map.h. */
#ifndef PILOTAGE_MAP_MAP_H
#define PILOTAGE_MAP_MAP_H

#include "map/config.h"

/* What every step of one mapping knows. */
struct pil_task {
	const struct pil_map_config *config;
	const struct pil_map_request *request;
	struct pil_mapping *map;	/* the answer, or its detail */
};

/* PIL_OK and a mapping, or one reason with mapping->detail set. */
enum pil_reason	pil_map(const struct pil_map_config *,
		    const struct pil_map_request *, struct pil_mapping *);

/*
 * The same as a record; with a configuration that is broken, that is the
 * answer. A request that is not sound gets none: -1.
 */
int		pil_map_answer(const struct pil_map_config *,
		    enum pil_reason broken, const char *why,
		    const struct pil_map_request *, struct pil_map_record *);

/* Read every file that the configuration names. */
enum pil_reason	pil_map_check_files(const struct pil_map_config *,
		    char *detail);

#endif
