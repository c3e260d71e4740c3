/* Groups by FQAN (groupmapfile). */
#ifndef PILOTAGE_MAP_GROUPS_H
#define PILOTAGE_MAP_GROUPS_H

#include "map/map.h"
#include "map/mapfile.h"

/*
 * Find the group of each FQAN, in their order: the first line that fits it
 * decides, by the first group that it names. An FQAN without a line has none;
 * a group that is not there refuses.
 */
enum pil_reason	pil_groups_find(const struct pil_task *,
		    const struct pil_mapfile *, struct pil_groups *);

/*
 * Fill in the answer's groups: those of the FQANs, the account's own, or
 * both, as the step says, the primary one first. Each is judged, and one that
 * payloads may not have refuses.
 */
enum pil_reason	pil_groups_give(const struct pil_task *);

#endif
