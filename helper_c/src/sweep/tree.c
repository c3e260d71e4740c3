/*
 * Removing a directory tree whose owner may still be changing it.
 *
 * Runs with the owner's rights. Two directories are open at any time: the top
 * and one of its entries, whose own entries are deleted or, when they are full
 * directories, moved up into the top. So no depth costs stack or descriptors,
 * ".." is never followed, and a directory that is swapped for a link is not
 * entered (helper.md C7).
 */
#include <sys/syscall.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdint.h>

#include "sweep/kernel.h"
#include "sweep/tree.h"

#define OPEN_DIRECTORY	(O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)

/* A pass that removes nothing is the last one, and this many are enough. */
#define PASSES_MAX	100000

/*
 * Open without leaving the mount: what is below another one is not the run's,
 * even if the account owns it. Before Linux 5.6 only another device is seen.
 */
static int
open_here(int at, const char *name, int flags)
{
	struct open_how how = { .flags = (unsigned)flags,
	    .resolve = RESOLVE_NO_XDEV };
	int fd = (int)kernel(SYS_openat2, at, (long)(uintptr_t)name,
	    (long)(uintptr_t)&how, sizeof(how), 0);

	if (fd != -ENOSYS)
		return fd;
	return is_elsewhere(at, name) ? -EXDEV : open_at(at, name, flags);
}

static int
is_mounted(int at, const char *name)
{
	int fd = open_here(at, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);

	if (fd >= 0)
		close_fd(fd);
	return fd == -EXDEV;
}

/* Open a directory, giving ourselves the rights on it that its owner can. */
static int
enter(int at, const char *name, struct directory *dir)
{
	int fd = open_here(at, name, OPEN_DIRECTORY);

	if (fd == -EACCES && !is_mounted(at, name) && allow_at(at, name) == 0)
		fd = open_here(at, name, OPEN_DIRECTORY);
	if (fd < 0)
		return -1;
	(void)allow(fd);
	use_directory(dir, fd);
	return 0;
}

/* Remove a file, a link or an empty directory. */
static int
remove_one(int at, const char *name, int is_directory)
{
	int first = is_directory ? AT_REMOVEDIR : 0, answer;

	answer = unlink_at(at, name, first);
	if (answer == -ENOTDIR || (answer != -ENOENT && !is_directory))
		answer = unlink_at(at, name, first ^ AT_REMOVEDIR);
	return answer == 0 || answer == -ENOENT ? 0 : -1;
}

/* Empty an entry of the top; what is full itself moves up, for a later pass. */
static int
flatten(int top, const char *name, unsigned long *counter)
{
	static struct directory dir;
	struct entry entry;
	char raised[32];
	int done = 0, failed;

	if (enter(top, name, &dir) == -1)
		return 0;
	while (next_entry(&dir, &entry)) {
		if (remove_one(dir.fd, entry.name, entry.is_directory) == 0) {
			done++;
			continue;
		}
		if (is_mounted(dir.fd, entry.name))
			continue;
		/* Moving a directory needs the right to write into it, too. */
		(void)allow_at(dir.fd, entry.name);
		/* Its owner may have taken the names that come next. */
		do {
			*put_number(put_text(raised, ".raised-"),
			    (*counter)++) = '\0';
			failed = rename_at(dir.fd, entry.name, top, raised);
		} while (failed == -EEXIST || failed == -ENOTEMPTY ||
		    failed == -ENOTDIR);
		done += failed == 0;
	}
	close_fd(dir.fd);
	return done;
}

int
tree_remove(int at, const char *name)
{
	static struct directory top;
	struct entry entry;
	unsigned long counter = 0;
	int done = 1, pass;

	if (remove_one(at, name, 1) == 0)
		return 0;
	if (enter(at, name, &top) == -1)
		return -1;
	for (pass = 0; done > 0 && pass < PASSES_MAX; pass++) {
		done = 0;
		rewind_directory(&top);
		while (next_entry(&top, &entry))
			if (remove_one(top.fd, entry.name,
			    entry.is_directory) == 0)
				done++;
			else
				done += flatten(top.fd, entry.name, &counter);
	}
	close_fd(top.fd);
	return remove_one(at, name, 1);
}
