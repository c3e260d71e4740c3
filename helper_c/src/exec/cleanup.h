/* Verb cleanup: what monitors that died have left. */
#ifndef PILOTAGE_EXEC_CLEANUP_H
#define PILOTAGE_EXEC_CLEANUP_H

#include "exec/run.h"

/* Of the run that the caller names, or of all of the caller's (root's: all). */
void	cleanup(struct run *) __attribute__((noreturn));

#endif
