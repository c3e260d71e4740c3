/*
 * Run a program of root's in lockstep with others: before each system call
 * that changes or tests files or locks, it waits for a byte.
 *
 *	lockstep IN OUT PROGRAM [ARG ...]
 *
 * OUT gets the process's id on a line, and then the number of each such call
 * on a line; the call is made when IN gives a byte. Ends with the program.
 */
#include <sys/ioctl.h>

#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "listen.h"

static const int watched[] = { SYS_flock, SYS_linkat, SYS_unlinkat,
    SYS_utimensat, SYS_newfstatat, SYS_pwrite64, SYS_ftruncate };

static void
serve(int listener, int in, int out)
{
	struct pollfd pfd = { .fd = listener, .events = POLLIN };
	struct seccomp_notif_resp answer;
	struct seccomp_notif call;
	char byte;

	for (;;) {
		if (poll(&pfd, 1, -1) == -1)
			continue;
		if (!(pfd.revents & POLLIN))
			return;
		memset(&call, 0, sizeof(call));
		if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &call) == -1)
			continue;
		dprintf(out, "%d\n", call.data.nr);
		/* Nobody there any more: run on. */
		(void)!read(in, &byte, 1);
		memset(&answer, 0, sizeof(answer));
		answer.id = call.id;
		answer.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
		(void)ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &answer);
	}
}

int
main(int argc, char **argv)
{
	struct shared *shared = listen_share();
	int fd, in, out, listener;
	pid_t pid;

	if (argc < 4)
		fail("arguments");
	in = atoi(argv[1]);
	out = atoi(argv[2]);
	if ((pid = fork()) == 0) {
		(void)close(in);
		(void)close(out);
		listen_install(shared, watched,
		    sizeof(watched) / sizeof(watched[0]),
		    SECCOMP_RET_USER_NOTIF, SECCOMP_RET_ALLOW);
		(void)execv(argv[3], argv + 3);
		_exit(98);
	}
	listener = listen_take(shared, pid);
	(void)dprintf(out, "%d\n", (int)pid);
	shared->taken = 1;
	/* Ends of pipes are the program's alone. */
	for (fd = 0; fd < 64; fd++)
		if (fd != listener && fd != in && fd != out)
			(void)close(fd);
	serve(listener, in, out);
	return listen_end(pid);
}
