/*
 * Files that only root could have written, opened once and judged by their
 * descriptor (helper.md C8).
 */
#ifndef PILOTAGE_BASE_TRUSTED_H
#define PILOTAGE_BASE_TRUSTED_H

#include <stddef.h>

/*
 * Open an absolute path by a walk from "/": no component may be a symbolic
 * link, and each, the last included, must be root's and not writable by group
 * or others. With O_DIRECTORY in flags the last must be a directory, else a
 * regular file. With any_owner the path is only opened. -1: detail says why.
 */
int	pil_open_trusted(const char *path, int flags, int any_owner,
	    char *detail);

/* Read such a file whole; the caller frees *text, which has a NUL after it. */
int	pil_read_trusted(const char *path, int any_owner, size_t max,
	    char **text, size_t *len, char *detail);

/* Read a descriptor to its end: the bytes, or -1; errno EFBIG beyond max. */
long	pil_read_all(int fd, char *buf, size_t max);

#endif
