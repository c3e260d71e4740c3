/*
 * The leases whose keep time is over.
 */
#include <sys/stat.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/text.h"
#include "map/leasename.h"
#include "mapper/due.h"

static int
add(struct dues *dues, const char *lease, const struct stat *st)
{
	struct due *due;
	void *bigger;

	if (strlen(lease) >= sizeof(due->lease))
		return 0;
	if (dues->n == dues->room) {
		bigger = reallocarray(dues->due, 2 * dues->room + 64,
		    sizeof(*due));
		if (bigger == NULL)
			return -1;
		dues->due = bigger;
		dues->room = 2 * dues->room + 64;
	}
	due = &dues->due[dues->n++];
	memset(due, 0, sizeof(*due));
	memcpy(due->lease, lease, strlen(lease) + 1);
	due->inode = st->st_ino;
	due->used = st->st_mtim;
	return 0;
}

static int
by_inode(const void *left, const void *right)
{
	const struct due *a = left, *b = right;

	return a->inode < b->inode ? -1 : a->inode > b->inode;
}

static int
by_uid(const void *left, const void *right)
{
	const struct due *a = left, *b = right;

	return a->uid < b->uid ? -1 : a->uid > b->uid;
}

/* The second pass: an account's file, whose lease may be due. */
static void
name_account(const struct dues *dues, int dir, const struct dirent *entry)
{
	const struct due key = { .inode = entry->d_ino };
	struct due *due;
	struct stat st;

	if (dues->n == 0 || !pil_is_account_file(entry->d_name))
		return;
	due = bsearch(&key, dues->due, dues->n, sizeof(key), by_inode);
	if (due != NULL &&
	    fstatat(dir, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	    st.st_ino == due->inode)
		memcpy(due->account, entry->d_name, strlen(entry->d_name) + 1);
}

int
due_find(struct dues *dues, int at, time_t not_since, char *detail)
{
	struct dirent *entry;
	struct stat st;
	int fd, pass, failed = 0;
	DIR *dir;

	fd = openat(at, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd == -1 || (dir = fdopendir(fd)) == NULL) {
		pil_detail(detail, "the leases: %s", strerror(errno));
		return -1;
	}
	for (pass = 0; pass < 2 && !failed; pass++) {
		rewinddir(dir);
		while (!failed && (errno = 0, entry = readdir(dir)) != NULL)
			if (pass == 1)
				name_account(dues, fd, entry);
			else if (pil_is_lease(entry->d_name) && fstatat(fd,
			    entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
			    S_ISREG(st.st_mode) && st.st_nlink == 2 &&
			    st.st_mtim.tv_sec <= not_since)
				failed = add(dues, entry->d_name, &st) == -1;
		failed |= entry == NULL && errno != 0;
		if (dues->n > 0)
			qsort(dues->due, dues->n, sizeof(*dues->due),
			    by_inode);
	}
	if (failed)
		pil_detail(detail, "the leases: %s", strerror(errno));
	(void)closedir(dir);
	return failed ? -1 : 0;
}

void
due_look_up(struct dues *dues)
{
	const struct passwd *pw;
	struct due *due;

	for (due = dues->due; due < dues->due + dues->n; due++) {
		/* No payload runs as this one. */
		due->uid = (uid_t)-1;
		if (due->account[0] == '\0') {
			pil_detail(due->left, "it has no account's file");
			continue;
		}
		pw = getpwnam(due->account);
		if (pw == NULL || strcmp(pw->pw_name, due->account) != 0 ||
		    pil_is_special(pw->pw_uid) || pw->pw_dir == NULL ||
		    pw->pw_dir[0] != '/' ||
		    strlen(pw->pw_dir) >= sizeof(due->home)) {
			pil_detail(due->left, "there is no such account, or "
			    "it has no usable home");
			continue;
		}
		due->uid = pw->pw_uid;
		memcpy(due->home, pw->pw_dir, strlen(pw->pw_dir) + 1);
	}
	if (dues->n > 0)
		qsort(dues->due, dues->n, sizeof(*due), by_uid);
}

void
due_keep(const struct dues *dues, uid_t uid, const char *fmt, ...)
{
	const struct due key = { .uid = uid };
	struct due *due;
	va_list args;

	if (dues->n == 0 || (due = bsearch(&key, dues->due, dues->n,
	    sizeof(key), by_uid)) == NULL)
		return;
	while (due > dues->due && due[-1].uid == uid)
		due--;
	for (; due < dues->due + dues->n && due->uid == uid; due++) {
		if (due->left[0] != '\0')
			continue;
		va_start(args, fmt);
		pil_vdetail(due->left, fmt, args);
		va_end(args);
	}
}

void
due_keep_all(const struct dues *dues, const char *fmt, ...)
{
	struct due *due;
	va_list args;

	for (due = dues->due; due < dues->due + dues->n; due++) {
		if (due->left[0] != '\0')
			continue;
		va_start(args, fmt);
		pil_vdetail(due->left, fmt, args);
		va_end(args);
	}
}
