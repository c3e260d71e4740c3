/*
 * A batch system may have handed its control group on to the caller. Then the
 * caller can make groups in there, move any process of that group into them,
 * also root's, and freeze or kill it: what it must not do to the monitor. So the
 * monitor goes to the nearest group from which nobody but root can take it.
 * The payload's group stays where it was, and is counted with the caller.
 */
#include <sys/stat.h>

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "keep/apart.h"
#include "keep/cgroup.h"
#include "privsep/sys.h"

#define KEEPERS		"pilotage-keepers"	/* empty, it stays */
#define OPEN_DIRECTORY	(O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)

/* Who can write to one of these has what is in the group, and below it. */
static int
is_roots(int group)
{
	static const char *const files[] = { ".", "cgroup.procs",
	    "cgroup.kill", "cgroup.freeze" };
	struct stat st;
	size_t i;

	for (i = 0; i < sizeof(files) / sizeof(files[0]); i++)
		if (fstatat(group, files[i], &st, AT_SYMLINK_NOFOLLOW) == -1 ?
		    errno != ENOENT : st.st_uid != 0 ||
		    (st.st_mode & (S_IWGRP | S_IWOTH)) != 0)
			return 0;
	return 1;
}

static int
enter(int group)
{
	int dir, failed;

	if (mkdirat(group, KEEPERS, 0755) == -1 && errno != EEXIST)
		return -1;
	if ((dir = openat(group, KEEPERS, OPEN_DIRECTORY)) == -1)
		return -1;
	errno = EPERM;
	failed = !is_roots(dir) ||
	    sys_write_at(dir, "cgroup.procs", "0") == -1;
	(void)close(dir);
	return failed ? -1 : 0;
}

int
apart_go(void)
{
	char name[NAME_MAX + 1];
	const char *below;
	int at = cgroup_top(&below), next, failed = 0;
	size_t len;

	/* Where our own group cannot be seen the site has named another one. */
	if (at == -1)
		return 0;
	errno = EPERM;
	if (!is_roots(at))
		failed = -1;
	while (failed == 0) {
		below += strspn(below, "/");
		if ((len = strcspn(below, "/")) == 0)
			break;
		(void)snprintf(name, sizeof(name), "%.*s", (int)len, below);
		below += len;
		if ((next = openat(at, name, OPEN_DIRECTORY)) == -1)
			failed = -1;
		else if (!is_roots(next)) {
			(void)close(next);
			failed = enter(at);
			break;
		} else {
			(void)close(at);
			at = next;
		}
	}
	(void)close(at);
	return failed;
}
