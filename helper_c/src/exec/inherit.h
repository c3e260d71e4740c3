/* Phase 0: what the caller left us, put right or refused (helper.md A). */
#ifndef PILOTAGE_EXEC_INHERIT_H
#define PILOTAGE_EXEC_INHERIT_H

#include "pilotage/reason.h"
#include "privsep/call.h"

/* 0, 1, 2 open; the status descriptor at its place; nothing else. */
int		inherit_descriptors(struct options *, const char **wrong);
int		inherit_signals(void);
/* Are we set-user-id root, for a real caller, in the first namespace? */
enum pil_reason	inherit_ids(char *detail);
enum pil_reason	inherit_limits(struct call *, char *detail);

#endif
