/*
 * What an account may have left on the machine. What cannot be looked at
 * counts as something left.
 */
#ifndef PILOTAGE_MAPPER_REMAINS_H
#define PILOTAGE_MAPPER_REMAINS_H

#include "mapper/due.h"

/*
 * The uids of everything that runs, sorted; before the sandbox is closed, from
 * inside which not every process can be seen. -1: not known, with detail.
 */
int	remains_running(uid_t **uids, size_t *n, char *detail);

/* The POSIX message queues as a directory; -1: there is no way to look. */
int	remains_queues(void);

/* Keep the leases of accounts that own anything outside of their homes. */
void	remains_check(const struct dues *, int queues);

/* Does the kernel keep more keys for this uid than its two empty keyrings? */
int	remains_keys(uid_t uid);

#endif
