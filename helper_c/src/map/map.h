/* Mapping itself; see pilotage/map.h. */
#ifndef PILOTAGE_MAP_MAP_H
#define PILOTAGE_MAP_MAP_H

#include <sys/types.h>

#include "map/config.h"

/* What the FQANs say about groups. */
struct pil_groups {
	gid_t		 gid[PIL_GROUPS_MAX];	/* each once */
	uint32_t	 n;
	int		 primary;	/* the first FQAN has one: the first gid */
	char		 names[PIL_LEASE_SIZE];	/* joined by ":", for a lease */
};

/* What every part of one mapping knows. */
struct pil_task {
	const struct pil_map_config *config;
	const struct pil_map_request *request;
	struct pil_mapping *map;	/* the answer, or its detail */
	const struct pil_step *step;	/* of the policy, which decides */
	const struct pil_groups *groups; /* NULL: the account's own alone */
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
