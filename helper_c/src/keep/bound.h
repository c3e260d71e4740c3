/* The files of the controllers: bounds, and what was used. */
#ifndef PILOTAGE_KEEP_BOUND_H
#define PILOTAGE_KEEP_BOUND_H

#include "keep/run.h"

/* "memory", "pids" or "cpu". */
const char *bound_controller(enum tree);
/* Does a group of version 2 have the controller's files? */
int	bound_is_here(int dir, enum tree);
/* Have a group of version 2 hand its controller on to the groups below it. */
void	bound_hand_on(int dir, enum tree);
/* Set a bound: bytes, processes or percent of a core. */
int	bound_set(const struct cgroup *, enum tree, unsigned long long);
/* What the groups have counted, before they go. */
void	bound_usage(struct run *);

#endif
