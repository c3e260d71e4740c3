/*
 * The only steps of a run that need privilege to change who a process is.
 * pilotage-logonly has its own become.c, in which nobody changes.
 */
#ifndef PILOTAGE_KEEP_BECOME_H
#define PILOTAGE_KEEP_BECOME_H

#include "keep/run.h"

/* For good and proven; 0, or -1 with errno. */
int	become_verifier(const struct run *);
int	become_account(const struct run *);
/* While the proxies are opened: with the caller's rights; and back. */
int	become_reader(const struct run *);
int	become_keeper(const struct run *);

#endif
