/* Children of the monitor: short-lived aides, and everything that dies. */
#ifndef PILOTAGE_KEEP_AIDE_H
#define PILOTAGE_KEEP_AIDE_H

#include "keep/run.h"

/* Fork an aide of the run that ends with what work returns; 0, or -1. */
int	aide_start(struct run *, struct child *aide,
	    int (*work)(const struct run *, void *), void *);
/*
 * Wait for the aide, reaping whatever else ends; kill it at the deadline.
 * Its exit status, or -1 when a signal or the deadline ended it.
 */
int	aide_wait(struct run *, struct child *aide, long long deadline_usec);
/* Reap all that has ended; 0 when there is no child left at all. */
int	aide_reap(struct run *);
/* Kill the monitor's direct children; their orphans become the next ones. */
void	aide_kill_children(void);
/* Kill and reap this child; also without one. */
void	aide_end(struct child *);
/* Sleep until a child ends, but no longer than this. */
void	aide_pause(long usec);

#endif
