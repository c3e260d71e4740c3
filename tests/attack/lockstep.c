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
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sched.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct shared {
	volatile int	 listener;	/* 0: not yet */
	volatile int	 taken;
};

static void
fail(const char *what)
{
	perror(what);
	_exit(99);
}

static int
install(void)
{
	static const int watched[] = { SYS_flock, SYS_linkat, SYS_unlinkat,
	    SYS_utimensat, SYS_newfstatat, SYS_pwrite64, SYS_ftruncate };
	struct sock_filter code[32] = { BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
	    offsetof(struct seccomp_data, nr)) };
	struct sock_fprog program = { .filter = code };
	unsigned short n = 1;
	size_t i;

	for (i = 0; i < sizeof(watched) / sizeof(watched[0]); i++) {
		code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ |
		    BPF_K, (unsigned)watched[i], 0, 1);
		code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K,
		    SECCOMP_RET_USER_NOTIF);
	}
	code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K,
	    SECCOMP_RET_ALLOW);
	program.len = n;
	return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
	    SECCOMP_FILTER_FLAG_NEW_LISTENER, &program);
}

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
	struct shared *shared = mmap(NULL, sizeof(*shared),
	    PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int fd, in, out, listener, pidfd, status;
	pid_t pid;

	if (argc < 4 || shared == MAP_FAILED)
		fail("arguments");
	in = atoi(argv[1]);
	out = atoi(argv[2]);
	if ((pid = fork()) == 0) {
		(void)close(in);
		(void)close(out);
		if ((listener = install()) == -1)
			_exit(97);
		shared->listener = listener;
		while (!shared->taken)
			(void)sched_yield();
		(void)execv(argv[3], argv + 3);
		_exit(98);
	}
	if ((pidfd = (int)syscall(SYS_pidfd_open, pid, 0)) == -1)
		fail("pidfd_open");
	while (shared->listener == 0)
		if (waitpid(pid, &status, WNOHANG) == pid)
			return WIFEXITED(status) ? WEXITSTATUS(status) : 99;
	listener = (int)syscall(SYS_pidfd_getfd, pidfd, shared->listener, 0);
	if (listener == -1)
		fail("pidfd_getfd");
	dprintf(out, "%d\n", (int)pid);
	shared->taken = 1;
	/* Ends of pipes are the program's alone. */
	for (fd = 0; fd < 64; fd++)
		if (fd != listener && fd != in && fd != out)
			(void)close(fd);
	serve(listener, in, out);
	if (waitpid(pid, &status, 0) != pid)
		return 99;
	return WIFEXITED(status) ? WEXITSTATUS(status) :
	    128 + WTERMSIG(status);
}
