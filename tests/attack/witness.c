/*
 * As a payload: say "right" if this is the account and nothing more, or what
 * is wrong. Says it before anything else, so that its word proves a run.
 */
#include <sys/prctl.h>
#include <sys/syscall.h>

#include <fcntl.h>
#include <linux/capability.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int
main(void)
{
	struct __user_cap_header_struct head = { _LINUX_CAPABILITY_VERSION_3,
	    0 };
	struct __user_cap_data_struct data[2];
	const char *home = getenv("HOME"), *dir = getenv("PILOTAGE_RUN_DIR");
	uid_t r, e, s;
	gid_t rg, eg, sg;
	char here[4096];
	int fd;

	if (getresuid(&r, &e, &s) != 0 || getresgid(&rg, &eg, &sg) != 0 ||
	    r < 1000 || r != e || r != s || rg < 1000 || rg != eg || rg != sg)
		printf("ids ");
	if (getgroups(0, NULL) != 1)
		printf("groups ");
	memset(data, 0xff, sizeof(data));
	if (syscall(SYS_capget, &head, data) != 0 || data[0].effective ||
	    data[0].permitted || data[0].inheritable || data[1].effective ||
	    data[1].permitted || data[1].inheritable ||
	    prctl(PR_CAPBSET_READ, 0, 0, 0, 0) != 0)
		printf("capabilities ");
	if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1)
		printf("no_new_privs ");
	for (fd = 3; fd < 256; fd++)
		if (fcntl(fd, F_GETFD) != -1)
			printf("descriptor-%d ", fd);
	if (home == NULL || dir == NULL || getcwd(here, sizeof(here)) == NULL ||
	    strncmp(here, dir, strlen(dir)) != 0 ||
	    strncmp(dir, home, strlen(home)) != 0)
		printf("directory ");
	if (getsid(0) != getpid())
		printf("session ");
	printf("right\n");
	return 0;
}
