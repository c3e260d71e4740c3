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
#include <time.h>
#include <unistd.h>

#include "base/account.h"
#include "base/gridmapdir.h"
#include "base/names.h"
#include "base/sha256.h"
#include "base/text.h"
#include "base/trusted.h"

/* Root's alone: a lock on a readable file could be held by anybody. */
#define LOCK_NAME	".pilotage.lock"
#define LOCK_TRIES	1000	/* of 10 ms */

struct pool {
	const struct pil_map_options *options;
	const char	*name;
	char		 lease[NAME_MAX + 1];
	struct pil_mapping *map;
	int		 dir;
};

int
pil_lease_name(const char *dn, const char *pool, char *out, size_t size)
{
	char plain[PIL_CANONICAL_SIZE], *p;
	char encoded[3 * PIL_CANONICAL_SIZE];
	uint8_t digest[32];
	size_t at = 0, room;

	if (pil_dn_canonical(dn, plain, sizeof(plain)) == -1)
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
	room = NAME_MAX - (pool != NULL ? PIL_ACCOUNT_SIZE : 0);
	if (at > room) {
		pil_sha256(plain, strlen(plain), digest);
		at = room - 66;
		encoded[at++] = '%';
		encoded[at++] = '%';
		pil_hex(digest, sizeof(digest), encoded + at);
	}
	at = (size_t)snprintf(out, size, "%s%s%s", encoded, pool ? ":" : "",
	    pool ? pool : "");
	return at < size ? 0 : -1;
}

static enum pil_reason
fail(const struct pool *pool, enum pil_reason reason, const char *what)
{
	pil_detail(pool->map->detail, "%s/%s: %s", pool->options->gridmapdir,
	    pool->lease, what);
	return reason;
}

static int
lock(const struct pool *pool)
{
	const struct timespec pause = { 0, 10 * 1000 * 1000 };
	int fd, i;

	fd = openat(pool->dir, LOCK_NAME,
	    O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd == -1)
		return -1;
	for (i = 0; i < LOCK_TRIES; i++) {
		if (flock(fd, LOCK_EX | LOCK_NB) == 0)
			return fd;
		(void)nanosleep(&pause, NULL);
	}
	(void)close(fd);
	errno = ETIMEDOUT;
	return -1;
}

static int
in_pool(const char *entry, const char *pool)
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

/* The account file that shares the lease's inode. */
static enum pil_reason
leased_account(const struct pool *pool, const struct stat *lease)
{
	struct dirent **names;
	struct stat st;
	enum pil_reason reason;
	int i, n;

	if ((n = scandirat(pool->dir, ".", &names, NULL, NULL)) == -1)
		return fail(pool, PIL_POOL_UNUSABLE, strerror(errno));
	reason = fail(pool, PIL_POOL_LEASE_CONFLICT,
	    "its account file is gone; remove the lease");
	for (i = 0; i < n; i++) {
		const char *name = names[i]->d_name;

		if (names[i]->d_ino != lease->st_ino || name[0] == '%' ||
		    fstatat(pool->dir, name, &st, AT_SYMLINK_NOFOLLOW) == -1 ||
		    st.st_ino != lease->st_ino || st.st_dev != lease->st_dev)
			continue;
		if (!in_pool(name, pool->name))
			reason = fail(pool, PIL_POOL_LEASE_CONFLICT,
			    "leased from another pool");
		else
			reason = pil_account(pool->options, name, pool->map);
	}
	for (i = 0; i < n; i++)
		free(names[i]);
	free(names);
	return reason;
}

/*
 * Link the account to the lease unless somebody else was quicker; errno
 * EAGAIN says that. Services that do not know our lock may link at the same
 * moment: then the count is 3 and both step back, as LCMAPS does.
 */
static int
link_lease(const struct pool *pool, const char *account)
{
	struct stat st;

	if (linkat(pool->dir, account, pool->dir, pool->lease, 0) == -1)
		return -1;
	if (fstatat(pool->dir, pool->lease, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	    S_ISREG(st.st_mode) && st.st_nlink == 2)
		return 0;
	(void)unlinkat(pool->dir, pool->lease, 0);
	errno = EAGAIN;
	return -1;
}

static enum pil_reason
lease_free_account(const struct pool *pool)
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

		if (!in_pool(name, pool->name) ||
		    fstatat(pool->dir, name, &st, AT_SYMLINK_NOFOLLOW) == -1 ||
		    !S_ISREG(st.st_mode) || st.st_nlink != 1)
			continue;
		reason = pil_account(pool->options, name, pool->map);
		if (reason != PIL_OK || pool->options->dry_run ||
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

static enum pil_reason
lease(const struct pool *pool)
{
	struct stat st;
	enum pil_reason reason;

	if (fstatat(pool->dir, pool->lease, &st, AT_SYMLINK_NOFOLLOW) == -1) {
		if (errno != ENOENT)
			return fail(pool, PIL_POOL_UNUSABLE, strerror(errno));
		return lease_free_account(pool);
	}
	if (!S_ISREG(st.st_mode))
		return fail(pool, PIL_POOL_UNUSABLE, "not a regular file");
	if (st.st_nlink > 2)
		return fail(pool, PIL_POOL_LEASE_CONFLICT,
		    "three or more links; two owners share an account");
	if (st.st_nlink == 2) {
		reason = leased_account(pool, &st);
		/* The time of the lease is the time of its last use. */
		if (reason == PIL_OK && !pool->options->dry_run)
			(void)utimensat(pool->dir, pool->lease, NULL,
			    AT_SYMLINK_NOFOLLOW);
		return reason;
	}
	/* An orphan: somebody removed the account's file. */
	if (!pool->options->dry_run &&
	    unlinkat(pool->dir, pool->lease, 0) == -1)
		return fail(pool, PIL_POOL_UNUSABLE, strerror(errno));
	return lease_free_account(pool);
}

enum pil_reason
pil_lease(const struct pil_map_options *options, const char *name,
    const char *dn, int by_fqan, struct pil_mapping *map)
{
	struct pool pool = { options, name, "", map, -1 };
	enum pil_reason reason;
	int held = -1;

	if (pil_lease_name(dn, by_fqan ? name : NULL, pool.lease,
	    sizeof(pool.lease)) == -1) {
		pil_detail(map->detail, "the DN cannot be written as a lease");
		return PIL_POOL_UNUSABLE;
	}
	pool.dir = pil_open_trusted(options->gridmapdir,
	    O_RDONLY | O_DIRECTORY, options->trust_any_owner, map->detail);
	if (pool.dir == -1)
		return PIL_POOL_UNUSABLE;
	if (!options->dry_run && (held = lock(&pool)) == -1)
		reason = fail(&pool, PIL_POOL_UNUSABLE, strerror(errno));
	else
		reason = lease(&pool);
	if (reason == PIL_OK)
		(void)snprintf(map->lease, sizeof(map->lease), "%s",
		    pool.lease);
	if (held != -1)
		(void)close(held);
	(void)close(pool.dir);
	return reason;
}
