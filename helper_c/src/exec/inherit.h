/* Phase 0: what the caller left us, put right or refused (helper.md A). */
#ifndef PILOTAGE_EXEC_INHERIT_H
#define PILOTAGE_EXEC_INHERIT_H

#include "exec/run.h"

/* 0, 1, 2 open; the status descriptor at its place; nothing else. */
int		inherit_descriptors(struct options *, const char **wrong);
int		inherit_signals(void);
/* Are we set-user-id root, for a real caller, in the first namespace? */
enum pil_reason	inherit_ids(char *detail);
enum pil_reason	inherit_limits(struct run *, char *detail);
/* In the payload: the caller's limits again, but no core. */
int		inherit_restore_limits(const struct run *);
/* The monitor's share of the machine, and in the payload the caller's again. */
void		inherit_share(struct run *);
int		inherit_restore_share(const struct run *);

#endif
