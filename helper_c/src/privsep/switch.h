/* The only place that changes user and group ids. */
#ifndef PILOTAGE_PRIVSEP_SWITCH_H
#define PILOTAGE_PRIVSEP_SWITCH_H

#include "privsep/call.h"

/* For good and proven: ids, groups, all capabilities. 0, or -1 with errno. */
int	switch_to(const struct ids *, const gid_t *groups, size_t ngroups);
/* The same to the caller, whose groups the process still has. */
int	switch_to_caller(const struct ids *);
/*
 * Nothing that is executed from here on gets a capability, root's programs
 * neither: ambient and bounding set are emptied. What this process has it keeps.
 */
int	switch_bound(void);
/* Effective ids only, while the proxies are opened; and back to root's. */
int	switch_effective(const struct ids *);
/* All three uids and gids root's: the caller cannot signal us any more. */
int	switch_to_root(void);
/* Give up the caller's groups, too. */
int	switch_leave_groups(void);
/* Is the process what switch_to_root() makes of one? */
int	switch_is_root(void);
/* One effective capability set bit for each of the named; 0 when missing. */
int	switch_has_capabilities(void);
/*
 * Become a process that has the account's rights on files and may signal its
 * processes and none other, but that they may not signal or stop: real and saved
 * uid are nobody's. It has the account's first group alone.
 */
int	switch_beside(const struct ids *);

#endif
