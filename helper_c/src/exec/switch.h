/* The only place that changes user and group ids. */
#ifndef PILOTAGE_EXEC_SWITCH_H
#define PILOTAGE_EXEC_SWITCH_H

#include "exec/run.h"

/* For good and proven: ids, groups, all capabilities. 0, or -1 with errno. */
int	switch_to(const struct ids *, const gid_t *groups, size_t ngroups);
/* The same to the caller, whose groups the process still has. */
int	switch_to_caller(const struct run *);
/* Effective uid only, while the proxies are opened; and back to root. */
int	switch_effective(uid_t);
/* All three uids and gids root's, no groups: the caller cannot signal us. */
int	switch_to_root(void);
/* One effective capability set bit for each of the named; 0 when missing. */
int	switch_has_capabilities(void);
/*
 * Become a process that may signal those of the uid and none other, and that
 * they may not signal: real and saved uid are nobody's.
 */
int	switch_to_killer(const struct ids *);

#endif
