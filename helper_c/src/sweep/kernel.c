/*
 * System calls and the few functions that pilotage-sweep has instead of libc's.
 */
#include <sys/stat.h>
#include <sys/syscall.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/stat.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include "sweep/kernel.h"

#define OF(pointer)	((long)(uintptr_t)(pointer))

int
open_at(int at, const char *name, int flags)
{
	return (int)kernel(SYS_openat, at, OF(name), flags, 0, 0);
}

void
close_fd(int fd)
{
	(void)kernel(SYS_close, fd, 0, 0, 0, 0);
}

int
unlink_at(int at, const char *name, int flags)
{
	return (int)kernel(SYS_unlinkat, at, OF(name), flags, 0, 0);
}

int
rename_at(int from, const char *name, int to, const char *other)
{
	return (int)kernel(SYS_renameat2, from, OF(name), to, OF(other), 0);
}

int
allow_at(int at, const char *name)
{
	char path[64];
	int fd, answer;

	fd = open_at(at, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return fd;
	*put_number(put_text(path, "/proc/self/fd/"), (unsigned long)fd) = '\0';
	answer = (int)kernel(SYS_fchmodat, AT_FDCWD, OF(path), 0700, 0, 0);
	close_fd(fd);
	return answer;
}

static int
look(int at, const char *name, int flags, unsigned mask, struct statx *found)
{
	return (int)kernel(SYS_statx, at, OF(name), flags, mask, OF(found));
}

int
allow(int fd)
{
	struct statx found;

	if (look(fd, "", AT_EMPTY_PATH, STATX_MODE, &found) == 0 &&
	    (found.stx_mode & 0700) == 0700)
		return 0;
	return (int)kernel(SYS_fchmod, fd, 0700, 0, 0, 0);
}

uid_t
owner_at(int at, const char *name)
{
	struct statx found;

	return look(at, name, AT_SYMLINK_NOFOLLOW, STATX_UID, &found) == 0 ?
	    found.stx_uid : (uid_t)-1;
}

int
is_elsewhere(int at, const char *name)
{
	struct statx here, there;

	return look(at, "", AT_EMPTY_PATH, 0, &here) == 0 &&
	    look(at, name, AT_SYMLINK_NOFOLLOW, 0, &there) == 0 &&
	    (here.stx_dev_major != there.stx_dev_major ||
	    here.stx_dev_minor != there.stx_dev_minor);
}

void
use_directory(struct directory *dir, int fd)
{
	dir->fd = fd;
	dir->filled = dir->at = 0;
}

void
rewind_directory(struct directory *dir)
{
	(void)kernel(SYS_lseek, dir->fd, 0, SEEK_SET, 0, 0);
	dir->filled = dir->at = 0;
}

int
next_entry(struct directory *dir, struct entry *entry)
{
	const struct dirent64 *next;

	do {
		if (dir->at >= dir->filled) {
			dir->at = 0;
			dir->filled = kernel(SYS_getdents64, dir->fd,
			    OF(dir->entries), ENTRIES_SIZE, 0, 0);
		}
		if (dir->filled <= 0)
			return 0;
		next = (const struct dirent64 *)(const void *)(dir->entries +
		    dir->at);
		dir->at += next->d_reclen;
	} while (is_same(next->d_name, ".") || is_same(next->d_name, ".."));
	entry->name = next->d_name;
	entry->is_directory = next->d_type == DT_DIR;
	return 1;
}

int
is_same(const char *one, const char *other)
{
	while (*one != '\0' && *one == *other) {
		one++;
		other++;
	}
	return *one == *other;
}

char *
put_text(char *at, const char *text)
{
	while (*text != '\0')
		*at++ = *text++;
	return at;
}

char *
put_number(char *at, unsigned long number)
{
	if (number > 9)
		at = put_number(at, number / 10);
	*at = (char)('0' + number % 10);
	return at + 1;
}
