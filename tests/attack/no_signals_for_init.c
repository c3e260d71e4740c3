/* As a payload in namespaces: the first process cannot be ended or entered. */
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

int
main(void)
{
	static const char *const files[] = { "/proc/1/mem", "/proc/1/environ",
	    "/proc/1/maps", "/proc/1/fd", "/proc/1/root", "/proc/1/cwd" };
	struct iovec here = { &here, sizeof(here) }, there = here;
	int sig, pidfd;
	size_t i;

	for (sig = 1; sig < 65; sig++)
		(void)kill(1, sig);
	if (ptrace(PTRACE_ATTACH, 1, NULL, NULL) == 0)
		printf("traced\n");
	if (process_vm_readv(1, &here, 1, &there, 1, 0) != -1)
		printf("read\n");
	if ((pidfd = (int)syscall(SYS_pidfd_open, 1, 0)) != -1 &&
	    syscall(SYS_pidfd_getfd, pidfd, 0, 0) != -1)
		printf("took a descriptor\n");
	for (i = 0; i < sizeof(files) / sizeof(files[0]); i++)
		if (open(files[i], O_RDONLY) != -1)
			printf("opened %s\n", files[i]);
	usleep(50000);
	printf("alive\n");
	return getpid() == 1;
}
