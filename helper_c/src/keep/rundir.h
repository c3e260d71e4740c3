/* The run directory, made with the account's rights. */
#ifndef PILOTAGE_KEEP_RUNDIR_H
#define PILOTAGE_KEEP_RUNDIR_H

#include "keep/run.h"

/* Make it with the proxy in it and go to its work/. */
enum pil_reason	rundir_enter(const struct run *, char *detail);
/* Put another proxy in place of the one there. */
int		rundir_renew(const struct run *, const struct proxy *);
/* The path of the run directory, or of a name in it. */
void		rundir_path(const struct run *, const char *name, char *out,
		    size_t);

#endif
