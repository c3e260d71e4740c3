/* Local accounts, looked up and judged. */
#ifndef PILOTAGE_MAP_ACCOUNT_H
#define PILOTAGE_MAP_ACCOUNT_H

#include "map/map.h"

/*
 * Look an account up and refuse it unless payloads may run as it; fills in
 * account, uid, gid, home and groups. Nothing is changed anywhere.
 */
enum pil_reason	pil_account(const struct pil_task *, const char *name);

#endif
