/*
 * Resource limits and files. The caller sets both too; here they hold also
 * for whoever runs the program by hand.
 */
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include "verifier/sandbox.h"

static int
lower(int which, rlim_t most)
{
	struct rlimit limit;

	if (getrlimit((__rlimit_resource_t)which, &limit) != 0)
		return -1;
	if (limit.rlim_max > most)
		limit.rlim_max = most;
	if (limit.rlim_cur > limit.rlim_max)
		limit.rlim_cur = limit.rlim_max;
	return setrlimit((__rlimit_resource_t)which, &limit);
}

int
sandbox_limits(void)
{
	if (lower(RLIMIT_CORE, 0) != 0 || lower(RLIMIT_FSIZE, 0) != 0 ||
	    lower(RLIMIT_NPROC, 0) != 0 || lower(RLIMIT_NOFILE, 32) != 0 ||
	    lower(RLIMIT_CPU, 2) != 0)
		return -1;
#ifndef __SANITIZE_ADDRESS__
	if (lower(RLIMIT_AS, (rlim_t)256 * 1024 * 1024) != 0)
		return -1;
#endif
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0 ||
	    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
		return -1;
	return 0;
}

/* The kernel's interface, which old system headers know only in part. */
struct ruleset {
	uint64_t	files;
	uint64_t	net;
	uint64_t	scoped;
};

struct beneath {
	uint64_t	access;
	int32_t		dir;
} __attribute__((packed));

#define READ_FILE	(1u << 2)
#define READ_DIR	(1u << 3)
#define BENEATH		1

/* All rights of a Landlock version, so that none is left by omission. */
static void
all_rights(long version, struct ruleset *rules, size_t *size)
{
	rules->files = (1u << 13) - 1;		/* version 1 */
	rules->net = 0;
	rules->scoped = 0;
	*size = sizeof(rules->files);
	if (version >= 2)
		rules->files |= 1u << 13;	/* refer */
	if (version >= 3)
		rules->files |= 1u << 14;	/* truncate */
	if (version >= 4) {
		rules->net = 3;			/* bind and connect TCP */
		*size = offsetof(struct ruleset, scoped);
	}
	if (version >= 5)
		rules->files |= 1u << 15;	/* ioctl of devices */
	if (version >= 6) {
		rules->scoped = 3;		/* abstract sockets, signals */
		*size = sizeof(*rules);
	}
}

static int
allow(int rules, int dir)
{
	struct beneath rule = { READ_FILE | READ_DIR, dir };

	if (dir == -1)
		return 0;
	return (int)syscall(SYS_landlock_add_rule, rules, BENEATH, &rule, 0);
}

/*
 * Landlock: of all files only those below the two directories, to read. A
 * kernel without it is no error: the program then has what its uid can read,
 * and seccomp still leaves it no way to write or to speak to anybody.
 */
int
sandbox_files(int first, int second)
{
	struct ruleset attr;
	size_t size;
	long version;
	int rules, result = -1;

	version = syscall(SYS_landlock_create_ruleset, NULL, 0, 1);
	if (version < 1)
		return errno == ENOSYS || errno == EOPNOTSUPP ? 0 : -1;
	all_rights(version, &attr, &size);
	rules = (int)syscall(SYS_landlock_create_ruleset, &attr, size, 0);
	if (rules == -1)
		return -1;
	if (allow(rules, first) == 0 && allow(rules, second) == 0)
		result = (int)syscall(SYS_landlock_restrict_self, rules, 0);
	(void)close(rules);
	return result;
}
