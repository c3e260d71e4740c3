/* The payload's own PID, mount and IPC namespaces (helper.md 4.3, step 18). */
#ifndef PILOTAGE_KEEP_ISOLATE_H
#define PILOTAGE_KEEP_ISOLATE_H

#include "keep/run.h"

/*
 * Make the namespaces and their first process; the monitor's next child will
 * be born in them. -1: detail says what the machine does not have.
 */
int	isolate_make(struct run *, char *detail);
/* Monitor: its later children are born outside again. */
int	isolate_leave(struct run *);
/* Payload, as root: see the mounts of the namespaces. Also without them. */
int	isolate_join(const struct run *);
/* "namespaces" or "none". */
const char *isolate_name(const struct run *);

#endif
