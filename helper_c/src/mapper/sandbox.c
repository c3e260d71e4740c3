/*
 * The mapper is root because the leases are root's, and has no other power of
 * root's: no capability but, where leases are recycled, to look into homes and
 * to ask the kernel who writes to a file there.
 */
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <stdint.h>
#include <unistd.h>

#include "mapper/sandbox.h"

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

static int
keep_capabilities(uint32_t keep)
{
	struct __user_cap_header_struct head = { _LINUX_CAPABILITY_VERSION_3,
	    0 };
	struct __user_cap_data_struct data[2] = { { keep, keep, 0 }, { 0, 0,
	    0 } };
	unsigned long cap;

	if (geteuid() != 0)
		return 0;
	if (setgroups(0, NULL) == -1 ||
	    prctl(PR_SET_SECUREBITS, SECBIT_NOROOT | SECBIT_NOROOT_LOCKED |
	    SECBIT_NO_SETUID_FIXUP | SECBIT_NO_SETUID_FIXUP_LOCKED |
	    SECBIT_KEEP_CAPS_LOCKED | SECBIT_NO_CAP_AMBIENT_RAISE |
	    SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED, 0, 0, 0) == -1 ||
	    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) == -1)
		return -1;
	for (cap = 0; cap < 64; cap++)
		if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) == -1) {
			if (errno == EINVAL && cap > 0)
				break;
			return -1;
		}
	return (int)syscall(SYS_capset, &head, data);
}

/* The kernel's interface, which old system headers know only in part. */
struct beneath {
	uint64_t	access;
	int32_t		dir;
} __attribute__((packed));

#define WRITE_FILE	(1u << 1)
#define REMOVE_FILE	(1u << 5)
#define MAKE_REG	(1u << 8)
/* Of version 1: execute, write, remove, make; reading stays free for NSS. */
#define WRITING		(1u << 0 | WRITE_FILE | 1u << 4 | REMOVE_FILE | \
			    0x7fu << 6)
#define TRUNCATE	(1u << 14)
#define BENEATH		1

/*
 * Landlock: no file is written, made or removed but in the one directory. A
 * kernel without it is no error; capabilities and ownership still hold.
 */
int
sandbox_files(const char *writable)
{
	struct beneath rule = { WRITE_FILE | REMOVE_FILE | MAKE_REG, -1 };
	uint64_t handled = WRITING;
	long version;
	int rules, result = 0;

	version = syscall(SYS_landlock_create_ruleset, NULL, 0, 1);
	if (version < 1)
		return errno == ENOSYS || errno == EOPNOTSUPP ? 0 : -1;
	if (version >= 3)
		handled |= TRUNCATE;
	rules = (int)syscall(SYS_landlock_create_ruleset, &handled,
	    sizeof(handled), 0);
	if (rules == -1)
		return -1;
	if (writable != NULL) {
		rule.access |= handled & TRUNCATE;
		rule.dir = open(writable, O_PATH | O_DIRECTORY | O_CLOEXEC);
		/* Mapping itself will say what is wrong with it. */
		if (rule.dir != -1) {
			result = (int)syscall(SYS_landlock_add_rule, rules,
			    BENEATH, &rule, 0);
			(void)close(rule.dir);
		}
	}
	if (result == 0)
		result = (int)syscall(SYS_landlock_restrict_self, rules, 0);
	(void)close(rules);
	return result;
}

static int
close_sandbox(const struct pil_map_config *config, uint32_t capabilities,
    rlim_t seconds)
{
	const char *leases = config != NULL ? config->gridmapdir : NULL;

	if (lower(RLIMIT_CORE, 0) == -1 || lower(RLIMIT_NOFILE, 64) == -1 ||
	    lower(RLIMIT_CPU, seconds) == -1 ||
	    lower(RLIMIT_FSIZE, 4096) == -1)
		return -1;
#ifndef __SANITIZE_ADDRESS__
	if (lower(RLIMIT_AS, (rlim_t)1024 * 1024 * 1024) == -1)
		return -1;
#endif
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == -1 ||
	    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == -1 ||
	    keep_capabilities(capabilities) == -1)
		return -1;
	return sandbox_files(leases) == -1 ? -1 : sandbox_calls();
}

int
sandbox(const struct pil_map_config *config)
{
	return close_sandbox(config, 0, 5);
}

int
sandbox_recycler(const struct pil_map_config *config)
{
	return close_sandbox(config, 1u << CAP_DAC_READ_SEARCH |
	    1u << CAP_LEASE, 120);
}
