/* The leases whose keep time is over, and what speaks against recycling. */
#ifndef PILOTAGE_MAPPER_DUE_H
#define PILOTAGE_MAPPER_DUE_H

#include <sys/types.h>

#include <stddef.h>
#include <time.h>

#include "pilotage/map.h"

struct due {
	char		 lease[PIL_LEASE_SIZE];
	char		 account[PIL_ACCOUNT_SIZE];
	char		 home[PIL_HOME_SIZE];
	char		 left[PIL_DETAIL_SIZE];	/* ""; else why it is kept */
	ino_t		 inode;
	struct timespec	 used;		/* the lease's own time */
	struct timespec	 changed;	/* of its account's place for runs */
	uid_t		 uid;
};

struct dues {
	struct due	*due;
	size_t		 n, room;
};

/* Every lease that was not used for so long; -1: not known, with detail. */
int	due_find(struct dues *, int dir, time_t not_since, char *detail);
/* Look the accounts up; those that are not known are kept. Sorts by uid. */
void	due_look_up(struct dues *);

/* What is found speaks against all leases of this uid, or against every one. */
void	due_keep(const struct dues *, uid_t, const char *fmt, ...)
	    __attribute__((format(printf, 3, 4)));
void	due_keep_all(const struct dues *, const char *fmt, ...)
	    __attribute__((format(printf, 2, 3)));

#endif
