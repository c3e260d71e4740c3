/*
 * Pool accounts, leased by hard links.
 *
 * One file per account; a lease is a second link to it, named by the encoded
 * DN. link(2) decides between services that share the directory; our own
 * processes also take a lock, because removing an orphan is two steps.
 * Everything that can refuse is asked before the link is made.
 */
#include <sys/file.h>
#include <sys/stat.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "map/account.h"
#include "map/gridmapdir.h"
#include "map/note.h"
#include "base/text.h"
#include "base/trusted.h"

/* Root's alone: a lock on a readable file could be held by anybody. */
#define LOCK_NAME	".pilotage.lock"

/* Another service that links at the same moment steps back in this time. */
#define STEP_BACK_MSEC	10
#define STEP_BACK_TRIES	5

/* Reading the directory again helps only when others take what we found. */
#define SCANS_MAX	8

/* One pool, and the lease that is looked for in it. */
struct pool {
	const struct pil_task *task;
	const char	*name;
	char		 lease[PIL_LEASE_SIZE];
	char		 owner[65];
	int		 dir;
	int		 dry;	/* change nothing */
};

static enum pil_reason
fail(const struct pool *pool, enum pil_reason reason, const char *what)
{
	pil_detail(pool->task->map->detail, "%s/%s: %s",
	    pool->task->config->gridmapdir, pool->lease, what);
	return reason;
}

int
pil_lease_lock(int dir, int how)
{
	int fd, failed, saved;

	fd = openat(dir, LOCK_NAME, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC,
	    0600);
	if (fd == -1)
		return -1;
	do
		failed = flock(fd, how);
	while (failed == -1 && errno == EINTR);
	if (failed == 0)
		return fd;
	saved = errno;
	(void)close(fd);
	errno = saved;
	return -1;
}

/* Is this name the account's file of the lease, and are there no others? */
static int
same_file(const struct pool *pool, const char *name, const struct stat *lease)
{
	struct stat st;

	return fstatat(pool->dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	    st.st_ino == lease->st_ino && st.st_dev == lease->st_dev &&
	    S_ISREG(st.st_mode) && st.st_nlink == 2;
}

static int
write_note(const struct pool *pool, const char *file, const char *account)
{
	struct pil_note note;

	memset(&note, 0, sizeof(note));
	(void)snprintf(note.account, sizeof(note.account), "%s", account);
	memcpy(note.lease, pool->lease, sizeof(note.lease));
	memcpy(note.owner, pool->owner, sizeof(note.owner));
	return pil_note_write(pool->dir, file, &note);
}

/* Visit each account's file until one answers; -1: it cannot be read whole. */
static int
each_account(const struct pool *pool, int (*visit)(const struct pool *,
    const struct dirent *, void *), void *arg)
{
	struct dirent *entry;
	int copy, found = 0;
	DIR *dir;

	if ((copy = openat(pool->dir, ".", O_RDONLY | O_DIRECTORY |
	    O_CLOEXEC)) == -1)
		return -1;
	if ((dir = fdopendir(copy)) == NULL) {
		(void)close(copy);
		return -1;
	}
	while (found == 0) {
		errno = 0;
		if ((entry = readdir(dir)) == NULL) {
			found = errno != 0 ? -1 : 0;
			break;
		}
		if (pil_is_account_file(entry->d_name))
			found = visit(pool, entry, arg);
	}
	(void)closedir(dir);
	return found;
}

struct wanted {
	const struct stat *lease;
	char	account[PIL_ACCOUNT_SIZE];
};

static int
is_wanted(const struct pool *pool, const struct dirent *entry, void *arg)
{
	struct wanted *wanted = arg;

	if (entry->d_ino != wanted->lease->st_ino ||
	    !same_file(pool, entry->d_name, wanted->lease))
		return 0;
	memcpy(wanted->account, entry->d_name, strlen(entry->d_name) + 1);
	return 1;
}

/*
 * The note says where to look, so that a directory of thousands need not be
 * read; the links decide. It also says whose the lease is: as LCMAPS writes
 * names, somebody else's may be the same one. A lease without a note of ours
 * is the first comer's, who must be alone to write it: NO_MAPPING sends him
 * for the lock.
 */
static enum pil_reason
leased_account(const struct pool *pool, const struct stat *lease, int alone)
{
	struct wanted wanted = { lease, "" };
	struct pil_note note;
	int known;

	known = pil_note_read(pool->dir, pool->lease, &note) &&
	    strcmp(note.lease, pool->lease) == 0;
	if (known && strcmp(note.owner, pool->owner) != 0)
		return fail(pool, PIL_POOL_LEASE_CONFLICT, "leased by another "
		    "owner, whose name differs only in case");
	if (!known && !alone && !pool->dry)
		return PIL_NO_MAPPING;
	if (known && same_file(pool, note.account, lease))
		memcpy(wanted.account, note.account, sizeof(wanted.account));
	else
		switch (each_account(pool, is_wanted, &wanted)) {
		case -1:
			return fail(pool, PIL_POOL_UNUSABLE, strerror(errno));
		case 0:
			return fail(pool, PIL_POOL_LEASE_CONFLICT,
			    "its account file is gone; remove the lease");
		}
	if (!pil_in_pool(wanted.account, pool->name))
		return fail(pool, PIL_POOL_LEASE_CONFLICT,
		    "leased from another pool");
	/* A name that is one owner's alone does without. */
	if (!known && !pool->dry &&
	    write_note(pool, pool->lease, wanted.account) == -1 &&
	    pool->task->config->lease_names == PIL_LEASES_LCMAPS)
		return fail(pool, PIL_POOL_UNUSABLE, strerror(errno));
	return pil_account(pool->task, wanted.account);
}

static int
look(const struct pool *pool, struct stat *st)
{
	const struct timespec pause = { 0, STEP_BACK_MSEC * 1000 * 1000 };
	int failed, i;

	for (i = 0; (failed = fstatat(pool->dir, pool->lease, st,
	    AT_SYMLINK_NOFOLLOW)) == 0 && S_ISREG(st->st_mode) &&
	    st->st_nlink > 2 && i < STEP_BACK_TRIES; i++)
		(void)nanosleep(&pause, NULL);
	return failed;
}

/* The owner's account as it is leased already; NO_MAPPING: it is not. */
static enum pil_reason
existing(const struct pool *pool, int alone)
{
	struct stat st;
	enum pil_reason reason;

	if (look(pool, &st) == -1)
		return errno == ENOENT ? PIL_NO_MAPPING :
		    fail(pool, PIL_POOL_UNUSABLE, strerror(errno));
	if (!S_ISREG(st.st_mode))
		return fail(pool, PIL_POOL_UNUSABLE, "not a regular file");
	if (st.st_nlink > 2)
		return fail(pool, PIL_POOL_LEASE_CONFLICT,
		    "three or more links; two owners share an account");
	/* An orphan: somebody removed the account's file. */
	if (st.st_nlink == 1)
		return PIL_NO_MAPPING;
	reason = leased_account(pool, &st, alone);
	/* The time of the lease is the time of its last use. */
	if (reason == PIL_OK && !pool->dry && utimensat(pool->dir,
	    pool->lease, NULL, AT_SYMLINK_NOFOLLOW) == -1)
		return fail(pool, PIL_POOL_UNUSABLE, strerror(errno));
	return reason;
}

/*
 * Link the account to the lease unless somebody else was quicker; errno
 * EAGAIN says that. Services that do not know our lock may link at the same
 * moment: then the count is 3 and both step back, as LCMAPS does. The note
 * goes first: the account has no owner yet whom a wrong one could harm.
 */
static int
link_lease(const struct pool *pool, const char *account)
{
	struct stat st;

	if ((write_note(pool, account, account) == -1 &&
	    pool->task->config->lease_names == PIL_LEASES_LCMAPS) ||
	    utimensat(pool->dir, account, NULL, AT_SYMLINK_NOFOLLOW) == -1 ||
	    linkat(pool->dir, account, pool->dir, pool->lease, 0) == -1)
		return -1;
	if (fstatat(pool->dir, pool->lease, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	    S_ISREG(st.st_mode) && st.st_nlink == 2)
		return 0;
	(void)unlinkat(pool->dir, pool->lease, 0);
	errno = EAGAIN;
	return -1;
}

static int
is_free(const struct pool *pool, const char *account)
{
	struct stat st;

	return fstatat(pool->dir, account, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	    S_ISREG(st.st_mode) && st.st_nlink == 1;
}

/* Take the first that is still free; POOL_EXHAUSTED: none of them is. */
static enum pil_reason
take_one(const struct pool *pool, const struct pil_free *list)
{
	enum pil_reason reason;
	size_t i;

	for (i = 0; i < list->n; i++) {
		if (!is_free(pool, list->name[i]))
			continue;
		reason = pil_account(pool->task, list->name[i]);
		if (reason != PIL_OK || pool->dry ||
		    link_lease(pool, list->name[i]) == 0)
			return reason;
		/* The same owner came by way of another service. */
		if (errno == EEXIST && (reason = existing(pool, 1)) !=
		    PIL_NO_MAPPING)
			return reason;
		if (errno != EAGAIN && errno != ENOENT && errno != EEXIST)
			return fail(pool, PIL_POOL_UNUSABLE, strerror(errno));
	}
	return PIL_POOL_EXHAUSTED;
}

static int
note_free(const struct pool *pool, const struct dirent *entry, void *arg)
{
	if (pil_in_pool(entry->d_name, pool->name) &&
	    is_free(pool, entry->d_name))
		pil_free_add(arg, entry->d_name);
	return 0;
}

/* What was free when somebody read the directory mostly is so still. */
static enum pil_reason
lease_free_account(const struct pool *pool)
{
	struct pil_free list;
	enum pil_reason reason;
	int scans = 0;

	pil_free_read(pool->dir, pool->name, &list);
	while ((reason = take_one(pool, &list)) == PIL_POOL_EXHAUSTED) {
		if (scans++ == SCANS_MAX)
			break;
		list.n = 0;
		if (each_account(pool, note_free, &list) == -1)
			return fail(pool, PIL_POOL_UNUSABLE, strerror(errno));
		if (list.n == 0)
			break;
		if (!pool->dry)
			pil_free_write(pool->dir, pool->name, &list);
	}
	return reason == PIL_POOL_EXHAUSTED ? fail(pool, reason,
	    "no free account in the pool") : reason;
}

/* With the directory to ourselves. */
static enum pil_reason
lease_anew(const struct pool *pool)
{
	enum pil_reason reason = existing(pool, 1);

	if (reason != PIL_NO_MAPPING)
		return reason;
	if (!pool->dry && unlinkat(pool->dir, pool->lease, 0) == -1 &&
	    errno != ENOENT)
		return fail(pool, PIL_POOL_UNUSABLE, strerror(errno));
	return lease_free_account(pool);
}

/* Many may look at once, but only one may change. */
static enum pil_reason
lease(const struct pool *pool)
{
	enum pil_reason reason;
	int held;

	if (pool->task->request->expect[0] != '\0') {
		reason = existing(pool, 0);
		return reason != PIL_NO_MAPPING ? reason : fail(pool,
		    PIL_ACCOUNT_CHANGED, "the owner has no lease any more");
	}
	if (pool->dry)
		return lease_anew(pool);
	if ((held = pil_lease_lock(pool->dir, LOCK_SH)) == -1)
		return fail(pool, PIL_POOL_UNUSABLE, strerror(errno));
	reason = existing(pool, 0);
	(void)close(held);
	if (reason != PIL_NO_MAPPING)
		return reason;
	if ((held = pil_lease_lock(pool->dir, LOCK_EX)) == -1)
		return fail(pool, PIL_POOL_UNUSABLE, strerror(errno));
	reason = lease_anew(pool);
	(void)close(held);
	return reason;
}

enum pil_reason
pil_lease(const struct pil_task *task, const char *name, const char *suffix)
{
	struct pool pool = { task, name, "", "", -1,
	    (task->request->flags & PIL_M_DRY_RUN) != 0 ||
	    task->request->expect[0] != '\0' };
	struct pil_mapping *map = task->map;
	const char *dn = task->request->who.dn;
	enum pil_reason reason;

	if (pil_lease_name(dn, suffix,
	    (enum pil_lease_names)task->config->lease_names, pool.lease,
	    sizeof(pool.lease)) == -1 ||
	    pil_lease_owner(dn, pool.owner) == -1) {
		pil_detail(map->detail, "DN and groups make no lease's name");
		return PIL_POOL_UNUSABLE;
	}
	pool.dir = pil_open_trusted(task->config->gridmapdir,
	    O_RDONLY | O_DIRECTORY, task->config->any_owner, map->detail);
	if (pool.dir == -1)
		return PIL_POOL_UNUSABLE;
	reason = lease(&pool);
	if (reason == PIL_OK)
		(void)snprintf(map->lease, sizeof(map->lease), "%s",
		    pool.lease);
	(void)close(pool.dir);
	return reason;
}
