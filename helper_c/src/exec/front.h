/* The process that the pilot waits for. */
#ifndef PILOTAGE_EXEC_FRONT_H
#define PILOTAGE_EXEC_FRONT_H

#include "privsep/call.h"

/* Relay signals to the monitor and its words to the caller; ends with the code. */
void	front(const struct call *, int monitor, pid_t)
	    __attribute__((noreturn));

#endif
