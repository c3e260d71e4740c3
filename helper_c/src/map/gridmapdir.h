/* Pool accounts, leased by hard links (glexec.md 2.2). */
#ifndef PILOTAGE_MAP_GRIDMAPDIR_H
#define PILOTAGE_MAP_GRIDMAPDIR_H

#include "map/leasename.h"
#include "map/map.h"

/*
 * Find the owner's account of the pool, or lease a free one. The lease's name
 * is the encoded DN and, for accounts chosen by FQAN, ":" and the suffix, as
 * LCMAPS adds groups. A dry run names the account of a first visit.
 */
enum pil_reason	pil_lease(const struct pil_task *, const char *pool,
		    const char *suffix);

/*
 * Wait for our turn in the directory, shared to look or alone to change; the
 * kernel drops the lock of a process that dies. A descriptor, or -1.
 */
int	pil_lease_lock(int dir, int how);

#endif
