/* [map] of helper.conf: which files, and what the policy is. */
#ifndef PILOTAGE_MAP_CONFIG_H
#define PILOTAGE_MAP_CONFIG_H

#include "map/policy.h"
#include "pilotage/map.h"

/* Of the files, NULL is one that is not configured. */
struct pil_map_config {
	const char	*grid_mapfile;	/* DN and FQAN lines */
	const char	*voms_mapfile;	/* the same form; where FQANs are looked up */
	const char	*groupmapfile;	/* FQANs to groups */
	const char	*gridmapdir;	/* pool leases; NULL: no pools */
	const char	*ban_file;	/* DNs and FQANs */
	const char	*second_ban_file; /* the same; sites have one for each */
	const char	*allowed_users;	/* DNs */
	const char	*timeslots;
	const char	*permitted_executables;
	const char	*policy_text;	/* NULL: PIL_POLICY */
	char		*policy_words;	/* what policy points into */
	struct pil_policy policy;	/* each step with its file */
	unsigned	 lease_names;	/* enum pil_lease_names */
	unsigned	 lease_keep;	/* seconds; 0: leases are never recycled */
	int		 any_owner;	/* files need not be root's: Python only */
};

/* Read the section. Strings live as long as the process. */
enum pil_reason	pil_map_config_load(struct pil_map_config *, const char *path,
		    int any_owner, char *detail);

/*
 * Make the policy from its text, give each step its file, and judge whether
 * all of it fits together. NULL, or what is wrong.
 */
const char	*pil_map_config_judge(struct pil_map_config *);

#endif
