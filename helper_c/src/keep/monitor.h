/* The process that decides, switches and cleans up. */
#ifndef PILOTAGE_KEEP_MONITOR_H
#define PILOTAGE_KEEP_MONITOR_H

#include "keep/run.h"

/* Phase 2 and the start of the payload; never returns. */
void	monitor(struct run *) __attribute__((noreturn));
/* Phase 4: until the payload has ended and nothing of it is left. */
void	watch(struct run *, int go, int failed) __attribute__((noreturn));

#endif
