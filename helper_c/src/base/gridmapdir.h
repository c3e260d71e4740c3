/* Pool accounts, leased by hard links (glexec.md 2.2). */
#ifndef PILOTAGE_BASE_GRIDMAPDIR_H
#define PILOTAGE_BASE_GRIDMAPDIR_H

#include "pilotage/map.h"

/*
 * Find the owner's account of the pool, or lease a free one. The lease's name
 * is the encoded DN, with ":pool" after it when by_fqan is set, as LCMAPS adds
 * groups. A dry run names the account that a first visit would get.
 */
enum pil_reason	pil_lease(const struct pil_map_options *, const char *pool,
		    const char *dn, int by_fqan, struct pil_mapping *);

/*
 * Encode a DN for a lease: canonical form, then every byte but lower-case
 * letters and digits as %xx. LCMAPS lower-cases instead, by which two people
 * whose names differ only in case would share an account. -1: not a DN.
 */
int	pil_lease_name(const char *dn, const char *pool, char *out,
	    size_t size);

#endif
