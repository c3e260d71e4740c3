/* As a payload: try every way back to privilege (D4). Prints what worked. */
#include <sys/prctl.h>
#include <sys/syscall.h>

#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int worked;

static void
must_fail(const char *what, int result)
{
	if (result == -1 && errno == EPERM)
		return;
	printf("%s: %s\n", what, result == -1 ? strerror(errno) : "worked");
	worked = 1;
}

int
main(void)
{
	struct __user_cap_header_struct head = { _LINUX_CAPABILITY_VERSION_3,
	    0 };
	struct __user_cap_data_struct data[2];
	uid_t r, e, s;
	gid_t rg, eg, sg;
	gid_t root = 0;
	unsigned long cap;

	if (getresuid(&r, &e, &s) || getresgid(&rg, &eg, &sg))
		return 2;
	if (r != e || e != s || r == 0 || rg != eg || eg != sg || rg == 0) {
		printf("ids: %u %u %u, %u %u %u\n", r, e, s, rg, eg, sg);
		worked = 1;
	}
	must_fail("setuid", setuid(0));
	must_fail("seteuid", seteuid(0));
	must_fail("setresuid", setresuid(0, 0, 0));
	must_fail("setgid", setgid(0));
	must_fail("setegid", setegid(0));
	must_fail("setresgid", setresgid(0, 0, 0));
	must_fail("setgroups", setgroups(1, &root));
	memset(data, 0xff, sizeof(data));
	must_fail("capset", (int)syscall(SYS_capset, &head, data));
	if (syscall(SYS_capget, &head, data) == -1 ||
	    data[0].effective | data[0].permitted | data[0].inheritable |
	    data[1].effective | data[1].permitted | data[1].inheritable) {
		printf("capabilities are left\n");
		worked = 1;
	}
	for (cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++)
		if (prctl(PR_CAPBSET_READ, cap, 0, 0, 0) == 1) {
			printf("bounding set has %lu\n", cap);
			worked = 1;
		}
	for (cap = 0; prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, cap, 0, 0)
	    >= 0; cap++)
		if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, cap, 0, 0)) {
			printf("ambient set has %lu\n", cap);
			worked = 1;
		}
	if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1) {
		printf("no_new_privs is not set\n");
		worked = 1;
	}
	return worked;
}
