/* [map] of helper.conf: which files, and what the policy is. */
#ifndef PILOTAGE_MAP_CONFIG_H
#define PILOTAGE_MAP_CONFIG_H

#include "pilotage/map.h"

struct pil_map_config {
	const char	*grid_mapfile;	/* DN and FQAN lines */
	const char	*gridmapdir;	/* pool leases; NULL: no pools */
	const char	*ban_file;	/* DNs and FQANs; NULL: none configured */
	int		 any_owner;	/* files need not be root's: Python only */
};

/* Read the section. Strings live as long as the process. */
enum pil_reason	pil_map_config_load(struct pil_map_config *, const char *path,
		    int any_owner, char *detail);

#endif
