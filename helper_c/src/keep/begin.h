/* From an account to a payload that runs. */
#ifndef PILOTAGE_KEEP_BEGIN_H
#define PILOTAGE_KEEP_BEGIN_H

#include "keep/run.h"

/* A caller that has gone wants no payload any more. */
void	begin_check(struct run *);
/* Log START, let the payload go and watch it to its end. */
void	begin(struct run *) __attribute__((noreturn));

#endif
