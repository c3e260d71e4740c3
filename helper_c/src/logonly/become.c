/*
 * Mode log-only: nobody becomes anybody. Each step that would be a switch in
 * pilotage-keep proves here that there is the caller and no power at all.
 */
#include <sys/syscall.h>

#include <errno.h>
#include <linux/capability.h>
#include <unistd.h>

#include "keep/become.h"

static int
is_caller(const struct run *run)
{
	struct __user_cap_header_struct head = { _LINUX_CAPABILITY_VERSION_3,
	    0 };
	struct __user_cap_data_struct data[2];
	uid_t r, e, s, uid = run->pilot.uid;
	gid_t rg, eg, sg, gid = run->pilot.gid;

	if (getresuid(&r, &e, &s) == -1 || getresgid(&rg, &eg, &sg) == -1 ||
	    syscall(SYS_capget, &head, data) == -1)
		return -1;
	if (uid != 0 && r == uid && e == uid && s == uid && rg == gid &&
	    eg == gid && sg == gid && data[0].permitted == 0 &&
	    data[1].permitted == 0)
		return 0;
	errno = EPERM;
	return -1;
}

int
become_verifier(const struct run *run)
{
	return is_caller(run);
}

int
become_account(const struct run *run)
{
	return is_caller(run);
}

int
become_reader(const struct run *run)
{
	return is_caller(run);
}

int
become_keeper(const struct run *run)
{
	return is_caller(run);
}
