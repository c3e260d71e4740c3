/*
 * Files that only root could have written.
 *
 * The walk opens one component after the other with O_NOFOLLOW. That is what
 * openat2's RESOLVE_NO_SYMLINKS does, but each directory is judged too, and it
 * works on kernels without openat2.
 */
#include <sys/stat.h>

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/text.h"
#include "base/trusted.h"

#define OPEN_SAFELY	(O_NOFOLLOW | O_CLOEXEC | O_NOCTTY | O_NONBLOCK)

static int
judge(int fd, int directory, const char *path, char *detail)
{
	struct stat st;

	if (fstat(fd, &st) == -1) {
		pil_detail(detail, "%s: %s", path, strerror(errno));
		return -1;
	}
	if (directory ? !S_ISDIR(st.st_mode) : !S_ISREG(st.st_mode)) {
		pil_detail(detail, "%s: not a %s", path,
		    directory ? "directory" : "regular file");
		return -1;
	}
	if (st.st_uid != 0 || (st.st_mode & (S_IWGRP | S_IWOTH)) != 0) {
		pil_detail(detail, "%s: must be root's and not writable by "
		    "group or others, as every directory above it", path);
		return -1;
	}
	return 0;
}

/* One step of the walk; takes and closes dir. */
static int
step(int dir, const char *name, int flags, const char *path, char *detail)
{
	int fd, saved;

	fd = openat(dir, name, flags | OPEN_SAFELY, 0600);
	saved = errno;
	(void)close(dir);
	if (fd == -1) {
		pil_detail(detail, "%s: %s", path, saved == ELOOP ?
		    "a component is a symbolic link" : strerror(saved));
		return -1;
	}
	if (judge(fd, (flags & O_DIRECTORY) != 0, path, detail) == -1) {
		(void)close(fd);
		return -1;
	}
	return fd;
}

int
pil_open_trusted(const char *path, int flags, int any_owner, char *detail)
{
	char copy[PATH_MAX], *name, *next;
	int fd;

	if (any_owner) {
		if ((fd = open(path, flags | O_CLOEXEC | O_NONBLOCK)) == -1)
			pil_detail(detail, "%s: %s", path, strerror(errno));
		return fd;
	}
	if (path[0] != '/' || strlen(path) >= sizeof(copy)) {
		pil_detail(detail, "%s: not an absolute path", path);
		return -1;
	}
	memcpy(copy, path, strlen(path) + 1);
	fd = step(AT_FDCWD, "/", O_PATH | O_DIRECTORY, path, detail);
	name = strtok_r(copy, "/", &next);
	while (fd != -1 && name != NULL) {
		char *after = strtok_r(NULL, "/", &next);

		if (strcmp(name, "..") == 0) {
			pil_detail(detail, "%s: has \"..\" in it", path);
			(void)close(fd);
			return -1;
		}
		fd = step(fd, name, after ? O_PATH | O_DIRECTORY : flags, path,
		    detail);
		name = after;
	}
	return fd;
}

long
pil_read_all(int fd, char *buf, size_t max)
{
	size_t len = 0;
	ssize_t n;

	for (;;) {
		n = read(fd, buf + len, max - len);
		if (n == -1 && errno == EINTR)
			continue;
		if (n == -1)
			return -1;
		if (n == 0)
			return (long)len;
		len += (size_t)n;
		if (len == max) {
			errno = EFBIG;
			return -1;
		}
	}
}

int
pil_read_trusted(const char *path, int any_owner, size_t max, char **text,
    size_t *len, char *detail)
{
	int fd = pil_open_trusted(path, O_RDONLY, any_owner, detail);
	struct stat st;
	long got;

	if (fd == -1)
		return -1;
	if (fstat(fd, &st) == -1 || !S_ISREG(st.st_mode) ||
	    (size_t)st.st_size > max) {
		pil_detail(detail, "%s: not a regular file of at most %zu "
		    "bytes", path, max);
		(void)close(fd);
		return -1;
	}
	/* The file may have grown since; then pil_read_all() says EFBIG. */
	if ((*text = malloc((size_t)st.st_size + 2)) == NULL ||
	    (got = pil_read_all(fd, *text, (size_t)st.st_size + 2)) == -1) {
		pil_detail(detail, "%s: %s", path, strerror(errno));
		free(*text);
		(void)close(fd);
		return -1;
	}
	(void)close(fd);
	(*text)[got] = '\0';
	*len = (size_t)got;
	return 0;
}
