/*
 * Removing a directory tree whose owner may still be changing it.
 *
 * Runs with the owner's rights. Two directories are open at any time: the top
 * and one of its entries, whose own entries are deleted or, when they are full
 * directories, moved up into the top. So no depth costs stack or descriptors,
 * ".." is never followed, and a directory that is swapped for a link is not
 * entered (helper.md C7).
 */
#include <sys/stat.h>
#include <sys/syscall.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "sweep/tree.h"

#define OPEN_DIRECTORY	(O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)

/* A pass that removes nothing is the last one, and this many are enough. */
#define PASSES_MAX	100000

/*
 * Is something mounted there? What is below a mount is not the run's, even if
 * the account owns it. Before Linux 5.6 only another device is seen.
 */
static int
is_mounted(int at, const char *name)
{
	struct open_how how = { .flags = O_PATH | O_NOFOLLOW | O_CLOEXEC,
	    .resolve = RESOLVE_NO_XDEV };
	int fd = (int)syscall(SYS_openat2, at, name, &how, sizeof(how));
	struct stat here, there;

	if (fd != -1) {
		(void)close(fd);
		return 0;
	}
	if (errno != ENOSYS)
		return errno == EXDEV;
	return fstat(at, &here) == 0 && fstatat(at, name, &there,
	    AT_SYMLINK_NOFOLLOW) == 0 && here.st_dev != there.st_dev;
}

/* Open a directory, giving ourselves the rights on it that its owner can. */
static DIR *
enter(int at, const char *name)
{
	DIR *dir;
	int fd;

	if (is_mounted(at, name))
		return NULL;
	/* Moving a directory needs the right to write into it, too. */
	(void)!fchmodat(at, name, 0700, AT_SYMLINK_NOFOLLOW);
	if ((fd = openat(at, name, OPEN_DIRECTORY)) == -1)
		return NULL;
	if ((dir = fdopendir(fd)) == NULL)
		(void)close(fd);
	return dir;
}

/* Remove a file, a link or an empty directory. */
static int
remove_one(int at, const char *name)
{
	if (unlinkat(at, name, 0) == 0 || errno == ENOENT)
		return 0;
	return unlinkat(at, name, AT_REMOVEDIR);
}

static int
is_dots(const char *name)
{
	return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

/* Empty an entry of the top; what is full itself moves up, for a later pass. */
static int
flatten(int top, const char *name, unsigned long *counter)
{
	struct dirent *entry;
	char raised[32];
	DIR *dir;
	int done = 0, failed;

	if ((dir = enter(top, name)) == NULL)
		return 0;
	while ((entry = readdir(dir)) != NULL) {
		if (is_dots(entry->d_name))
			continue;
		if (remove_one(dirfd(dir), entry->d_name) == 0) {
			done++;
			continue;
		}
		if (is_mounted(dirfd(dir), entry->d_name))
			continue;
		(void)!fchmodat(dirfd(dir), entry->d_name, 0700,
		    AT_SYMLINK_NOFOLLOW);
		/* Its owner may have taken the names that come next. */
		do {
			(void)snprintf(raised, sizeof(raised), ".raised-%lu",
			    (*counter)++);
			failed = renameat(dirfd(dir), entry->d_name, top,
			    raised);
		} while (failed == -1 && (errno == EEXIST ||
		    errno == ENOTEMPTY || errno == ENOTDIR));
		done += failed == 0;
	}
	(void)closedir(dir);
	return done;
}

int
tree_remove(int at, const char *name)
{
	struct dirent *entry;
	unsigned long counter = 0;
	int done = 1, pass;
	DIR *top;

	if (remove_one(at, name) == 0)
		return 0;
	if ((top = enter(at, name)) == NULL)
		return -1;
	for (pass = 0; done > 0 && pass < PASSES_MAX; pass++) {
		done = 0;
		rewinddir(top);
		while ((entry = readdir(top)) != NULL) {
			if (is_dots(entry->d_name))
				continue;
			if (remove_one(dirfd(top), entry->d_name) == 0)
				done++;
			else
				done += flatten(dirfd(top), entry->d_name,
				    &counter);
		}
	}
	(void)closedir(top);
	return remove_one(at, name);
}
