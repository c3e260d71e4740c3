/* Pool accounts, leased by hard links (glexec.md 2.2). */
#ifndef PILOTAGE_MAP_GRIDMAPDIR_H
#define PILOTAGE_MAP_GRIDMAPDIR_H

#include "map/map.h"

/* One pool, and the lease that is looked for in it. */
struct pil_pool {
	const struct pil_task *task;
	const char	*name;
	char		 lease[PIL_LEASE_SIZE];
	int		 dir;
	int		 dry;	/* change nothing */
};

/*
 * Find the owner's account of the pool, or lease a free one. The lease's name
 * is the encoded DN and, for accounts chosen by FQAN, ":" and the suffix, as
 * LCMAPS adds groups. A dry run names the account of a first visit.
 */
enum pil_reason	pil_lease(const struct pil_task *, const char *pool,
		    const char *suffix);

/*
 * Encode a DN for a lease: canonical form, then every byte but lower-case
 * letters and digits as %xx. LCMAPS lower-cases instead, by which two people
 * whose names differ only in case would share an account. -1: no such name.
 */
int	pil_lease_name(const char *dn, const char *suffix, char *out,
	    size_t size);

/* Is it an account of the pool: its name and digits? */
int	pil_in_pool(const char *entry, const char *pool);

#endif
