/* The log lines of gLExec and LCMAPS in their old form. */
#ifndef PILOTAGE_KEEP_OLDLOG_H
#define PILOTAGE_KEEP_OLDLOG_H

#include "keep/run.h"

/* Open what helper.conf asks for; the working directory is the caller's. */
int	oldlog_open(struct run *, char *detail);
/* Before the payload is let go: who, as whom, what. 0, or -1: not all taken. */
int	oldlog_begin(struct run *);
/* When it is over: the seconds it used. */
int	oldlog_end(const struct run *);

#endif
