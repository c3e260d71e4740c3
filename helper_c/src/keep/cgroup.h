/* The payload's own control groups, of version 2 and, for limits, version 1. */
#ifndef PILOTAGE_KEEP_CGROUP_H
#define PILOTAGE_KEEP_CGROUP_H

#include "keep/run.h"

/* See where the trees are, before cgroup_make(); changes nothing. */
void	cgroup_look(void);
/*
 * Make "pilotage-<run id>" below the caller's own groups, or below the site's
 * cgroup_parent, and set the run's bounds; -1: not here, detail says what.
 */
int	cgroup_make(struct run *, char *detail);
/* Put a process that was not born in the group of version 2 there. */
int	cgroup_place(const struct cgroup *, pid_t);
/* The calling process, which has one thread, enters those of version 1. */
int	cgroup_enter(const struct cgroup *);
/* Kill all in it and wait until it is empty; -1: something is left. */
int	cgroup_kill(const struct cgroup *);
/* Remove the empty groups and close them; also without any. -1: one stays. */
int	cgroup_remove(struct cgroup *);
/* Open one group of a run whose monitor is gone; -1: there is none. */
int	cgroup_open(struct cgroup *, enum tree, const char *path);
/* Where version 2 is mounted, open, and the way to our own group; -1: none. */
int	cgroup_top(const char **below);
/* The descriptor of the group of version 2; -1: none. */
int	cgroup_unified(const struct run *);
/* How the payload's processes are found: "cgroup2" or "group". */
const char *cgroup_tracking(const struct run *);

#endif
