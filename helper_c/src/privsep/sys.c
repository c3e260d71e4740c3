/*
 * System calls that the C library of older distributions does not have, and
 * waits with a deadline.
 */
#include <sys/syscall.h>
#include <sys/wait.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "privsep/order.h"
#include "privsep/sys.h"

int
sys_pidfd_open(pid_t pid)
{
	return (int)syscall(SYS_pidfd_open, pid, 0);
}

int
sys_pidfd_kill(int pidfd, int sig)
{
	return (int)syscall(SYS_pidfd_send_signal, pidfd, sig, NULL, 0);
}

/* Before Linux 5.9: the list of our own descriptors. */
static int
close_listed(unsigned first, unsigned last)
{
	DIR *dir = opendir("/proc/self/fd");
	struct dirent *entry;

	if (dir == NULL)
		return -1;
	while ((entry = readdir(dir)) != NULL) {
		unsigned long fd = strtoul(entry->d_name, NULL, 10);

		if (entry->d_name[0] != '.' && fd >= first && fd <= last &&
		    fd != (unsigned long)dirfd(dir))
			(void)close((int)fd);
	}
	return closedir(dir);
}

int
sys_close_range(unsigned first, unsigned last)
{
	if (first > last || syscall(SYS_close_range, first, last, 0) == 0)
		return 0;
	return errno == ENOSYS ? close_listed(first, last) : -1;
}

int
sys_close_from(unsigned first)
{
	return sys_close_range(first, ~0U);
}

pid_t
sys_clone(unsigned long long namespaces, int cgroup, int *pidfd, int *placed)
{
	struct clone_args args = { 0 };
	pid_t pid;

	args.flags = CLONE_PIDFD | namespaces;
	args.pidfd = (uintptr_t)pidfd;
	args.exit_signal = SIGCHLD;
	if (cgroup != -1) {
		args.flags |= CLONE_INTO_CGROUP;
		args.cgroup = (unsigned)cgroup;
	}
	*placed = 1;
	pid = (pid_t)syscall(SYS_clone3, &args, sizeof(args));
	if (pid != -1 || errno != ENOSYS || namespaces != 0)
		return pid;
	*placed = 0;
	if ((pid = fork()) > 0 && (*pidfd = sys_pidfd_open(pid)) == -1) {
		/* Still our child and not reaped, so the number is its own. */
		(void)kill(pid, SIGKILL);
		(void)waitpid(pid, NULL, 0);
		return -1;
	}
	return pid;
}

int
sys_let_go(int first, int last)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC), fd;

	for (fd = first; fd <= last; fd++)
		if (null == -1 || dup2(null, fd) == -1)
			return -1;
	return close(null);
}

long long
sys_now_usec(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (long long)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

int
sys_write_all(int fd, const void *data, size_t len)
{
	const char *p = data;
	ssize_t n;

	while (len > 0) {
		if ((n = write(fd, p, len)) == -1) {
			if (errno == EINTR)
				continue;
			return -1;
		}
		p += n;
		len -= (size_t)n;
	}
	return 0;
}

int
sys_write_at(int dir, const char *name, const char *text)
{
	int fd = openat(dir, name, O_WRONLY | O_NOFOLLOW | O_CLOEXEC), failed;

	if (fd == -1)
		return -1;
	failed = sys_write_all(fd, text, strlen(text));
	(void)close(fd);
	return failed;
}

/* There may be more seals: some machines let no memory file be executed. */
int
sys_is_sealed(int fd)
{
	int seals = fcntl(fd, F_GET_SEALS);

	return seals != -1 && (seals & PIL_SEALS) == PIL_SEALS;
}

int
sys_wait(int fd, short events, long long deadline_usec)
{
	struct pollfd pfd = { fd, events, 0 };
	long long left;
	int n;

	do {
		left = (deadline_usec - sys_now_usec() + 999) / 1000;
		n = poll(&pfd, 1, left < 0 ? 0 : (int)left);
	} while (n == -1 && errno == EINTR);
	return n;
}
