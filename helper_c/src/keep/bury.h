/* The runs on an account, living and dead, and the burial of the dead. */
#ifndef PILOTAGE_KEEP_BURY_H
#define PILOTAGE_KEEP_BURY_H

#include "keep/run.h"

#define RECORD_MAX	20480	/* bytes of a run's record, and a NUL */

/* What cleanup found of a run. */
enum left { LEFT_NOTHING, LEFT_REMOVED, LEFT_SOME, LEFT_ALIVE, LEFT_FOREIGN };

/* A living run is another owner's; a record that may be one cannot be read. */
#define BURY_ANOTHERS	(-1)
#define BURY_UNSEEN	(-2)
/* Something of another owner's cannot be removed: it may be a process. */
#define BURY_REMAINS	(-3)

/*
 * The account is held for all of these but bury_record().
 *
 * How many other runs live on it; BURY_ANOTHERS or BURY_UNSEEN.
 */
int		bury_look(struct run *);
/* Remove what dead ones left; alone: no run lives. Negative: see above. */
int		bury_dead(struct run *, int alone);
/* Remove a run's record, and the directory that it is in. */
void		bury_record(const struct run *, const char *id);
/* Kill and remove what a run of the caller's (root's: of anybody's) left. */
enum left	bury_run(struct run *, const char *id);

#endif
