/* System calls that the C library of older distributions does not have. */
#ifndef PILOTAGE_PRIVSEP_SYS_H
#define PILOTAGE_PRIVSEP_SYS_H

#include <sys/types.h>

int	sys_pidfd_open(pid_t);
int	sys_pidfd_kill(int pidfd, int sig);
/* Close every descriptor from first on. */
int	sys_close_from(unsigned first);
int	sys_close_range(unsigned first, unsigned last);
/*
 * Fork with a pidfd, into new namespaces and the cgroup if one is given. On
 * kernels without clone3 there are no namespaces, *placed is 0, and the parent
 * must move the child itself.
 */
pid_t	sys_clone(unsigned long long namespaces, int cgroup, int *pidfd,
	    int *placed);
/* Put /dev/null on these descriptors: what was there is not ours to hold. */
int	sys_let_go(int first, int last);
long long sys_now_usec(void);		/* monotonic */
int	sys_write_all(int fd, const void *, size_t);
int	sys_write_at(int dir, const char *name, const char *text);
/* A memory file whose bytes cannot change any more, and reading it cannot block. */
int	sys_is_sealed(int fd);
/* Wait until fd has one of the events or the deadline has passed: 1, 0, -1. */
int	sys_wait(int fd, short events, long long deadline_usec);

#endif
