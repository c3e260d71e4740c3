/*
 * The only place that changes user and group ids. After each drop the old ids
 * are tried, and getting one back is an error (OpenSSH's permanently_set_uid;
 * CVE-2023-38496 was a drop that did nothing).
 */
#include <sys/prctl.h>
#include <sys/syscall.h>

#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pilotage/map.h"
#include "privsep/switch.h"

/*
 * Where no accounts are; plus the pid, so that no such uid is another's, for
 * then they could kill each other.
 */
#define BESIDE_BASE	0xf0000000u

static int
get_capabilities(struct __user_cap_data_struct data[2])
{
	struct __user_cap_header_struct head = { _LINUX_CAPABILITY_VERSION_3,
	    0 };

	return (int)syscall(SYS_capget, &head, data);
}

int
switch_has_capabilities(void)
{
	static const unsigned needed = 1U << CAP_SETUID | 1U << CAP_SETGID |
	    1U << CAP_KILL | 1U << CAP_SETPCAP;
	struct __user_cap_data_struct data[2];

	return get_capabilities(data) == 0 &&
	    (data[0].effective & needed) == needed;
}

/* The bounding set goes first: dropping from it needs CAP_SETPCAP. */
int
switch_bound(void)
{
	/* What is forked afterwards has this and the empty set alike. */
	static int bound;
	unsigned long cap;

	if (bound)
		return 0;
	if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) == -1)
		return -1;
	for (cap = 0; cap < 64; cap++)
		if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) == -1) {
			if (errno != EINVAL || cap == 0)
				return -1;
			break;
		}
	bound = 1;
	return 0;
}

static int
drop_capabilities(void)
{
	struct __user_cap_header_struct head = { _LINUX_CAPABILITY_VERSION_3,
	    0 };
	struct __user_cap_data_struct none[2], now[2];

	memset(none, 0, sizeof(none));
	if (syscall(SYS_capset, &head, none) == -1 ||
	    get_capabilities(now) == -1)
		return -1;
	if (memcmp(none, now, sizeof(none)) != 0) {
		errno = EPERM;
		return -1;
	}
	return 0;
}

/* Every way back must be closed. */
static int
regained(uid_t uid, gid_t gid)
{
	if (setuid(0) == 0 || seteuid(0) == 0 ||
	    setresuid((uid_t)-1, 0, (uid_t)-1) == 0 ||
	    setresuid((uid_t)-1, (uid_t)-1, 0) == 0 || setgroups(0, NULL) == 0)
		return 1;
	if (gid != 0 && (setgid(0) == 0 ||
	    setresgid((gid_t)-1, 0, (gid_t)-1) == 0))
		return 1;
	return uid == 0;
}

static int
proven(const struct ids *to)
{
	uid_t r, e, s;
	gid_t rg, eg, sg;

	if (getresuid(&r, &e, &s) == 0 && getresgid(&rg, &eg, &sg) == 0 &&
	    r == to->uid && e == to->uid && s == to->uid && rg == to->gid &&
	    eg == to->gid && sg == to->gid && !regained(to->uid, to->gid))
		/* The change of uid has made the process dumpable again. */
		return prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	errno = EPERM;
	return -1;
}

static int
by_id(const void *a, const void *b)
{
	gid_t left, right;

	memcpy(&left, a, sizeof(left));
	memcpy(&right, b, sizeof(right));
	return (left > right) - (left < right);
}

/* The kernel's list and ours, as sets. */
static int
same_groups(const gid_t *groups, size_t n)
{
	gid_t now[PIL_GROUPS_MAX], want[PIL_GROUPS_MAX];

	if (n > PIL_GROUPS_MAX || getgroups(PIL_GROUPS_MAX, now) != (int)n) {
		errno = EPERM;
		return 0;
	}
	if (n == 0)
		return 1;
	memcpy(want, groups, n * sizeof(gid_t));
	qsort(want, n, sizeof(gid_t), by_id);
	qsort(now, n, sizeof(gid_t), by_id);
	errno = EPERM;
	return memcmp(want, now, n * sizeof(gid_t)) == 0;
}

int
switch_to(const struct ids *to, const gid_t *groups, size_t ngroups)
{
	if (switch_bound() == -1 || setgroups(ngroups, groups) == -1 ||
	    setresgid(to->gid, to->gid, to->gid) == -1 ||
	    setresuid(to->uid, to->uid, to->uid) == -1 ||
	    drop_capabilities() == -1)
		return -1;
	if (!same_groups(groups, ngroups))
		return -1;
	return proven(to);
}

int
switch_to_caller(const struct ids *to)
{
	if (geteuid() == 0 && to->uid != 0 && switch_bound() == -1)
		return -1;
	if (setresgid(to->gid, to->gid, to->gid) == -1 ||
	    setresuid(to->uid, to->uid, to->uid) == -1)
		return -1;
	/* Root may look at its own configuration, too. */
	if (to->uid == 0)
		return 0;
	return drop_capabilities() == -1 ? -1 : proven(to);
}

int
switch_effective(const struct ids *to)
{
	uid_t r, e, s;
	gid_t rg, eg, sg;

	/* With the uid the right to change the gid comes and goes. */
	if ((to->uid == 0 && setresuid((uid_t)-1, 0, (uid_t)-1) == -1) ||
	    setresgid((gid_t)-1, to->gid, (gid_t)-1) == -1 ||
	    setresuid((uid_t)-1, to->uid, (uid_t)-1) == -1 ||
	    getresuid(&r, &e, &s) == -1 || getresgid(&rg, &eg, &sg) == -1)
		return -1;
	errno = EPERM;
	return e == to->uid && s == 0 && eg == to->gid && sg == 0 ?
	    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) : -1;
}

int
switch_is_root(void)
{
	uid_t r, e, s;
	gid_t rg, eg, sg;

	return getresuid(&r, &e, &s) == 0 && getresgid(&rg, &eg, &sg) == 0 &&
	    r == 0 && e == 0 && s == 0 && rg == 0 && eg == 0 && sg == 0;
}

int
switch_to_root(void)
{
	if (setresuid(0, 0, 0) == -1 || setresgid(0, 0, 0) == -1)
		return -1;
	errno = EPERM;
	return switch_is_root() ? prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) : -1;
}

int
switch_leave_groups(void)
{
	if (setgroups(0, NULL) == -1)
		return -1;
	errno = EPERM;
	return getgroups(0, NULL) == 0 ? 0 : -1;
}

int
switch_beside(const struct ids *target)
{
	const uid_t own = BESIDE_BASE + (uid_t)getpid();
	uid_t r, e, s;

	if (switch_bound() == -1 || setgroups(0, NULL) == -1 ||
	    setresgid(target->gid, target->gid, target->gid) == -1 ||
	    setresuid(own, target->uid, own) == -1 ||
	    drop_capabilities() == -1 || getresuid(&r, &e, &s) == -1)
		return -1;
	errno = EPERM;
	if (r != own || e != target->uid || s != own || e == 0 ||
	    regained(e, target->gid))
		return -1;
	return prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
}
