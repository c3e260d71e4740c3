/* Verb cleanup: what monitors that died have left. */
#ifndef PILOTAGE_KEEP_CLEANUP_H
#define PILOTAGE_KEEP_CLEANUP_H

#include "keep/run.h"

/* Of the run that the caller names, or of all of the caller's (root's: all). */
void	cleanup(struct run *) __attribute__((noreturn));

#endif
