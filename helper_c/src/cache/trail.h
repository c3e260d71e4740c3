/*
 * The trail of one verification: every directory and file that it opened, or
 * did not find, and what each was before it was read.
 */
#ifndef PILOTAGE_CACHE_TRAIL_H
#define PILOTAGE_CACHE_TRAIL_H

#include "verify/core.h"

/* What makes a file the same one with the same bytes and rights. */
struct pil_inode {
	uint64_t	 device;
	uint64_t	 number;
	uint64_t	 mount;
	uint64_t	 size;
	int64_t		 mtime;		/* nanoseconds */
	int64_t		 ctime;
	uint32_t	 mode;
	uint32_t	 uid;
	uint32_t	 gid;
	uint32_t	 zero;
};

struct pil_step {
	int			 parent; /* index of a directory; -1: a path */
	int			 flags;	/* as it was opened */
	int			 found;	/* 0: there was none */
	int			 fd;	/* of a directory, while it is open */
	size_t			 name;	/* where in `names` */
	struct pil_inode	 inode;
};

struct pil_trail {
	struct pil_watch	 watch;
	int			 strict;
	int			 useless; /* nothing can be made of it */
	int64_t			 start;	/* nanoseconds since 1970 */
	int64_t			 offset; /* of that clock to the steady one */
	struct pil_step		*steps;
	size_t			 count;
	char			*names;
	size_t			 used;
};

void	pil_trail_begin(struct pil_trail *);
int	pil_trail_same(const struct pil_trail *);
size_t	pil_trail_size(const struct pil_trail *);
void	pil_trail_end(struct pil_trail *);

#endif
