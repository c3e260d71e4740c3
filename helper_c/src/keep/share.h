/* The monitor's share of the machine, and the payload's. */
#ifndef PILOTAGE_KEEP_SHARE_H
#define PILOTAGE_KEEP_SHARE_H

#include "keep/run.h"

/* The monitor's is no worse than anybody's. */
void	share_raise(struct run *);
/* In the payload: the caller's again, */
int	share_restore(const struct run *);
/* and the caller's limits, but no core. */
int	share_restore_limits(const struct run *);

#endif
