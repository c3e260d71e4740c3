/*
 * Pool accounts, leased by hard links.
 *
 * One empty file per account; a lease is a second link to it, named by the
 * encoded DN. link(2) decides between services that share the directory; our
 * own processes also take a lock, because removing an orphan is two steps.
 * Everything that can refuse is asked before the link is made.
 */
#include <sys/file.h>
#include <sys/stat.h>

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "map/account.h"
#include "map/gridmapdir.h"
#include "base/names.h"
#include "base/sha256.h"
#include "base/text.h"
#include "base/trusted.h"
#include "base/words.h"

/* Root's alone: a lock on a readable file could be held by anybody. */
#define LOCK_NAME	".pilotage.lock"

int
pil_lease_name(const char *dn, const char *suffix, char *out, size_t size)
{
	char plain[PIL_CANONICAL_SIZE], *p;
	char encoded[3 * PIL_CANONICAL_SIZE];
	size_t at = 0, room, tail = suffix != NULL ? strlen(suffix) + 1 : 0;
	uint8_t digest[32];

	if (pil_dn_canonical(dn, plain, sizeof(plain)) == -1 ||
	    tail > NAME_MAX - 2 * sizeof(digest) - 16)
		return -1;
	for (p = plain; *p != '\0'; p++) {
		unsigned char c = (unsigned char)*p;

		if (islower(c) || isdigit(c))
			encoded[at++] = (char)c;
		else
			at += (size_t)snprintf(encoded + at, 4, "%%%02x", c);
	}
	encoded[at] = '\0';
	/* A name too long for a file keeps its beginning and a digest. */
	room = NAME_MAX - tail;
	if (at > room) {
		pil_sha256(plain, strlen(plain), digest);
		at = room - 66;
		encoded[at++] = '%';
		encoded[at++] = '%';
		pil_hex(digest, sizeof(digest), encoded + at);
	}
	at = (size_t)snprintf(out, size, "%s%s%s", encoded, tail ? ":" : "",
	    tail ? suffix : "");
	return at < size ? 0 : -1;
}

static enum pil_reason
fail(const struct pil_pool *pool, enum pil_reason reason, const char *what)
{
	pil_detail(pool->task->map->detail, "%s/%s: %s", pool->task->config->gridmapdir,
	    pool->lease, what);
	return reason;
}

/* Wait our turn; the kernel drops the lock of a process that dies. */
static int
lock(const struct pil_pool *pool, int how)
{
	int fd, failed, saved;

	fd = openat(pool->dir, LOCK_NAME,
	    O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
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

int
pil_in_pool(const char *entry, const char *pool)
{
	size_t len = strlen(pool);

	if (strncmp(entry, pool, len) != 0 || entry[len] == '\0')
		return 0;
	return strspn(entry + len, "0123456789") == strlen(entry + len);
}

/* Shorter first, so that demo9 comes before demo10. */
static int
by_number(const struct dirent **a, const struct dirent **b)
{
	size_t left = strlen((*a)->d_name), right = strlen((*b)->d_name);

	if (left != right)
		return left < right ? -1 : 1;
	return strcmp((*a)->d_name, (*b)->d_name);
}

static int
same_file(const struct pil_pool *pool, const char *name,
    const struct stat *lease)
{
	struct stat st;

	return fstatat(pool->dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	    st.st_ino == lease->st_ino && st.st_dev == lease->st_dev;
}

/*
 * We write the account's name into its file, which other services leave empty:
 * then a directory of thousands need not be read to find it again. What is
 * written there is only a hint; the link decides.
 */
static int
read_hint(const struct pil_pool *pool, const struct stat *lease, char *name,
    size_t size)
{
	int fd = openat(pool->dir, pool->lease,
	    O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	ssize_t n;

	if (fd == -1)
		return 0;
	n = read(fd, name, size - 1);
	(void)close(fd);
	if (n <= 0)
		return 0;
	name[n] = '\0';
	return pil_is_account(name, strlen(name)) &&
	    same_file(pool, name, lease);
}

static void
write_hint(const struct pil_pool *pool, const char *name)
{
	int fd = openat(pool->dir, pool->lease,
	    O_WRONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	struct stat st;

	if (fd == -1)
		return;
	if (fstat(fd, &st) == 0 && st.st_size == 0)
		(void)!pwrite(fd, name, strlen(name), 0);
	(void)close(fd);
}

/* The account file that shares the lease's inode; 0: it is gone. */
static int
find_account(const struct pil_pool *pool, const struct stat *lease,
    char *account, size_t size)
{
	struct dirent **names;
	int i, n, found = 0;

	if (read_hint(pool, lease, account, size))
		return 1;
	if ((n = scandirat(pool->dir, ".", &names, NULL, NULL)) == -1)
		return -1;
	for (i = 0; i < n; i++) {
		const char *name = names[i]->d_name;

		if (!found && names[i]->d_ino == lease->st_ino &&
		    name[0] != '%' && strlen(name) < size &&
		    same_file(pool, name, lease)) {
			(void)snprintf(account, size, "%s", name);
			found = 1;
		}
		free(names[i]);
	}
	free(names);
	if (found && !pool->dry)
		write_hint(pool, account);
	return found;
}

static enum pil_reason
leased_account(const struct pil_pool *pool, const struct stat *lease)
{
	char name[NAME_MAX + 1];

	switch (find_account(pool, lease, name, sizeof(name))) {
	case -1:
		return fail(pool, PIL_POOL_UNUSABLE, strerror(errno));
	case 0:
		return fail(pool, PIL_POOL_LEASE_CONFLICT,
		    "its account file is gone; remove the lease");
	}
	if (!pil_in_pool(name, pool->name))
		return fail(pool, PIL_POOL_LEASE_CONFLICT,
		    "leased from another pool");
	return pil_account(pool->task, name);
}

/*
 * Link the account to the lease unless somebody else was quicker; errno
 * EAGAIN says that. Services that do not know our lock may link at the same
 * moment: then the count is 3 and both step back, as LCMAPS does.
 */
static int
link_lease(const struct pil_pool *pool, const char *account)
{
	struct stat st;

	if (linkat(pool->dir, account, pool->dir, pool->lease, 0) == -1)
		return -1;
	if (fstatat(pool->dir, pool->lease, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	    S_ISREG(st.st_mode) && st.st_nlink == 2) {
		write_hint(pool, account);
		return 0;
	}
	(void)unlinkat(pool->dir, pool->lease, 0);
	errno = EAGAIN;
	return -1;
}

static enum pil_reason
lease_free_account(const struct pil_pool *pool)
{
	struct dirent **names;
	struct stat st;
	enum pil_reason reason;
	int i, n, done = 0;

	if ((n = scandirat(pool->dir, ".", &names, NULL, by_number)) == -1)
		return fail(pool, PIL_POOL_UNUSABLE, strerror(errno));
	reason = fail(pool, PIL_POOL_EXHAUSTED, "no free account in the pool");
	for (i = 0; i < n && !done; i++) {
		const char *name = names[i]->d_name;

		if (!pil_in_pool(name, pool->name) ||
		    fstatat(pool->dir, name, &st, AT_SYMLINK_NOFOLLOW) == -1 ||
		    !S_ISREG(st.st_mode) || st.st_nlink != 1)
			continue;
		reason = pil_account(pool->task, name);
		if (reason != PIL_OK || pool->dry ||
		    link_lease(pool, name) == 0)
			done = 1;
		else if (errno == EAGAIN)
			reason = fail(pool, PIL_POOL_EXHAUSTED,
			    "no free account in the pool");
		else {
			reason = fail(pool, PIL_POOL_UNUSABLE, strerror(errno));
			done = 1;
		}
	}
	for (i = 0; i < n; i++)
		free(names[i]);
	free(names);
	return reason;
}

/* The owner's account as it is leased already; NO_MAPPING: it is not. */
static enum pil_reason
existing(const struct pil_pool *pool)
{
	struct stat st;
	enum pil_reason reason;

	if (fstatat(pool->dir, pool->lease, &st, AT_SYMLINK_NOFOLLOW) == -1)
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
	reason = leased_account(pool, &st);
	/* The time of the lease is the time of its last use. */
	if (reason == PIL_OK && !pool->dry)
		(void)utimensat(pool->dir, pool->lease, NULL,
		    AT_SYMLINK_NOFOLLOW);
	return reason;
}

/* With the directory to ourselves. */
static enum pil_reason
lease_anew(const struct pil_pool *pool)
{
	enum pil_reason reason = existing(pool);

	if (reason != PIL_NO_MAPPING)
		return reason;
	if (!pool->dry && unlinkat(pool->dir, pool->lease, 0) == -1 &&
	    errno != ENOENT)
		return fail(pool, PIL_POOL_UNUSABLE, strerror(errno));
	return lease_free_account(pool);
}

/* Many may look at once, but only one may change. */
static enum pil_reason
lease(const struct pil_pool *pool)
{
	enum pil_reason reason;
	int held;

	if (pool->task->request->expect[0] != '\0') {
		reason = existing(pool);
		return reason != PIL_NO_MAPPING ? reason : fail(pool,
		    PIL_ACCOUNT_CHANGED, "the owner has no lease any more");
	}
	if (pool->dry)
		return lease_anew(pool);
	if ((held = lock(pool, LOCK_SH)) == -1)
		return fail(pool, PIL_POOL_UNUSABLE, strerror(errno));
	reason = existing(pool);
	(void)close(held);
	if (reason != PIL_NO_MAPPING)
		return reason;
	if ((held = lock(pool, LOCK_EX)) == -1)
		return fail(pool, PIL_POOL_UNUSABLE, strerror(errno));
	reason = lease_anew(pool);
	(void)close(held);
	return reason;
}

enum pil_reason
pil_lease(const struct pil_task *task, const char *name, const char *suffix)
{
	struct pil_pool pool = { task, name, "", -1,
	    (task->request->flags & PIL_M_DRY_RUN) != 0 ||
	    task->request->expect[0] != '\0' };
	struct pil_mapping *map = task->map;
	enum pil_reason reason;

	if (pil_lease_name(task->request->who.dn, suffix, pool.lease,
	    sizeof(pool.lease)) == -1) {
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
