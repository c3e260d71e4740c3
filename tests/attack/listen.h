/*
 * Watch the system calls of a program from outside: a seccomp filter whose
 * listener the parent takes over. Installed by root without no_new_privs, so
 * that a set-user-id program still becomes root.
 */
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <stdio.h>
#include <unistd.h>

#define LISTED_MAX	30

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

static struct shared *
listen_share(void)
{
	struct shared *shared = mmap(NULL, sizeof(*shared),
	    PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (shared == MAP_FAILED)
		fail("mmap");
	return shared;
}

/* The child: what becomes of the calls that are listed, and of the rest. */
static void
listen_install(struct shared *shared, const int *calls, size_t n,
    unsigned listed, unsigned rest)
{
	struct sock_filter code[2 * LISTED_MAX + 2] = { BPF_STMT(BPF_LD |
	    BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)) };
	struct sock_fprog program = { .filter = code };
	unsigned short at = 1;
	int listener;
	size_t i;

	for (i = 0; i < n && i < LISTED_MAX; i++) {
		code[at++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ |
		    BPF_K, (unsigned)calls[i], 0, 1);
		code[at++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K,
		    listed);
	}
	code[at++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, rest);
	program.len = at;
	listener = (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
	    SECCOMP_FILTER_FLAG_NEW_LISTENER, &program);
	if (listener == -1)
		_exit(97);
	shared->listener = listener;
	while (!shared->taken)
		(void)sched_yield();
}

/* The parent: the child's listener. It goes on once `taken` is set. */
static int
listen_take(const struct shared *shared, pid_t pid)
{
	int listener, pidfd, status;

	if ((pidfd = (int)syscall(SYS_pidfd_open, pid, 0)) == -1)
		fail("pidfd_open");
	while (shared->listener == 0)
		if (waitpid(pid, &status, WNOHANG) == pid)
			_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 99);
	listener = (int)syscall(SYS_pidfd_getfd, pidfd, shared->listener, 0);
	if (listener == -1)
		fail("pidfd_getfd");
	(void)close(pidfd);
	return listener;
}

/* How the child ended, as an exit code. */
static int
listen_end(pid_t pid)
{
	int status;

	if (waitpid(pid, &status, 0) != pid)
		return 99;
	return WIFEXITED(status) ? WEXITSTATUS(status) :
	    128 + WTERMSIG(status);
}
