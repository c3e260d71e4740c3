/* The process that the pilot waits for. */
#ifndef PILOTAGE_EXEC_FRONT_H
#define PILOTAGE_EXEC_FRONT_H

#include "exec/run.h"

/* Relay signals to the monitor and its words to the caller; ends with the code. */
void	front(struct run *, int monitor, pid_t) __attribute__((noreturn));
/* May the front pass this signal on? */
int	front_relays(int sig);

#endif
