/* What the account leaves behind, removed with the account's rights only. */
#ifndef PILOTAGE_KEEP_SWEEP_H
#define PILOTAGE_KEEP_SWEEP_H

#include "keep/run.h"

/* Kill every process of the mapped uid, if any; the number left, -1: not known. */
int	sweep_processes(struct run *);
/* Send a signal to all in the run's group; not 0: it cannot be. */
int	sweep_signal(struct run *, int sig);
/*
 * Begin to remove the run directory of the run with this id and, when
 * everything is set, what the account has in the directories that all share,
 * where something has changed since it last was, and its System V objects.
 */
void	sweep_begin(struct run *, const char *run_id, int everything);
/* Wait for that: the number of things left, -1: not known. */
int	sweep_end(struct run *);

#endif
