/*
 * From a verified identity to a local account, by the files that sites have:
 * grid-mapfile (accounts and .pools, by DN or FQAN), gridmapdir pool leases,
 * ban file. libc only; used by pilotage-exec as root and, through cffi, by anybody as a
 * dry run. See shared reference glexec.md section 2.
 */
#ifndef PILOTAGE_MAP_H
#define PILOTAGE_MAP_H

#include <sys/types.h>

#include "pilotage/verify.h"

#define PIL_ACCOUNT_SIZE	64
#define PIL_GROUPS_MAX		64

struct pil_map_options {
	const char	*grid_mapfile;	/* DN and FQAN lines; required */
	const char	*gridmapdir;	/* pool leases; NULL: no pools */
	const char	*ban_file;	/* DNs and FQANs; NULL: none configured */
	uid_t		 min_uid;	/* below: ACCOUNT_FORBIDDEN */
	gid_t		 min_gid;
	uid_t		 caller;	/* never mapped to; (uid_t)-1: none */
	int		 dry_run;	/* look, lease nothing */
	int		 trust_any_owner; /* dry runs on test files only */
	/* Further bounds, asked before anything is leased; NULL: none. */
	enum pil_reason	(*permit)(const void *, const char *account, uid_t,
			    gid_t);
	const void	*permit_arg;
};

struct pil_mapping {
	char		 account[PIL_ACCOUNT_SIZE];
	char		 home[1024];
	char		 lease[PIL_ACCOUNT_SIZE * 64]; /* encoded lease name; "" : none */
	uid_t		 uid;
	gid_t		 gid;
	size_t		 ngroups;
	gid_t		 groups[PIL_GROUPS_MAX];
	char		 detail[PIL_DETAIL_SIZE]; /* why, in words */
};

/* PIL_OK and a mapping, or one reason with mapping->detail set. */
enum pil_reason	pil_map(const struct pil_map_options *,
		    const struct pil_identity *, struct pil_mapping *);

/* Slash-form DNs equal attribute by attribute (old spellings included). */
int		pil_dn_equal(const char *, const char *);

#endif
