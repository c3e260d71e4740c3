/* Verb glexec: a run by gLExec's contract, see docs/glexec.md. */
#ifndef PILOTAGE_KEEP_GLEXEC_H
#define PILOTAGE_KEEP_GLEXEC_H

#include "keep/run.h"

#define GLEXEC_VARIABLES_MAX	64

/* Whether the site lets this caller use the verb. */
int		glexec_allowed(const struct caller *);
/* The exit code of a reason, as gLExec's callers expect it. */
int		glexec_code(enum pil_reason);
/* Where the payload's proxy goes. */
void		glexec_target(const struct run *, char *, size_t);
/* As the account: into its home, the proxy written, the caller's umask. */
enum pil_reason	glexec_enter(const struct run *, char *detail);
/* As the account: remove the proxy if the caller did not say where it goes. */
void		glexec_leave(const struct run *);
/* Add the caller's GLEXEC_ variables to a list with room for all; 0, or -1. */
int		glexec_environment(const struct run *, char **list);

#endif
