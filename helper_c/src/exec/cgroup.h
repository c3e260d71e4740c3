/* The payload's own control group, version 2, wherever it is mounted. */
#ifndef PILOTAGE_EXEC_CGROUP_H
#define PILOTAGE_EXEC_CGROUP_H

#include "exec/run.h"

/* Make "pilotage-<run id>" below the caller's own group; -1: not here. */
int	cgroup_make(struct cgroup *, const char *run_id, char *detail);
/* Kill all in it and wait until it is empty; -1: something is left. */
int	cgroup_kill(const struct cgroup *);
/* Remove the empty group and close it; also without one. */
void	cgroup_remove(struct cgroup *);
/* Open the group of a run whose monitor is gone; -1: there is none. */
int	cgroup_open(struct cgroup *, const char *path);
/* How the payload's processes are found: "cgroup2" or "group". */
const char *cgroup_tracking(const struct run *);

#endif
