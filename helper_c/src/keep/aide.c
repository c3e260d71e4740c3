/*
 * Children of the monitor. It is a subreaper, so every process that the
 * payload leaves behind becomes its child in the end.
 */
#include <sys/wait.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "keep/aide.h"
#include "privsep/sys.h"

#define PAUSE_USEC	10000	/* a child may end unseen: look again */

int
aide_start(struct run *run, struct child *aide,
    int (*work)(const struct run *, void *), void *arg)
{
	int placed;

	*aide = (struct child){ .pidfd = -1 };
	aide->pid = sys_clone(0, -1, &aide->pidfd, &placed);
	if (aide->pid == 0)
		_exit(work(run, arg));
	if (aide->pid == -1) {
		aide->pid = 0;
		return -1;
	}
	return 0;
}

static void
count(struct usage *total, const struct rusage *one)
{
	total->user_usec += (long long)one->ru_utime.tv_sec * 1000000 +
	    one->ru_utime.tv_usec;
	total->system_usec += (long long)one->ru_stime.tv_sec * 1000000 +
	    one->ru_stime.tv_usec;
	if (one->ru_maxrss > total->maxrss_kib)
		total->maxrss_kib = one->ru_maxrss;
}

int
aide_reap(struct run *run)
{
	struct rusage usage;
	struct child *child;
	int status;
	pid_t pid;

	while ((pid = wait4(-1, &status, WNOHANG, &usage)) > 0) {
		child = pid == run->aide.pid ? &run->aide :
		    pid == run->mapper.pid ? &run->mapper :
		    pid == run->control.clerk.pid ? &run->control.clerk :
		    pid == run->payload.pid ? &run->payload :
		    pid == run->init.pid ? &run->init : NULL;
		if (child != &run->aide && child != &run->mapper &&
		    child != &run->control.clerk)
			count(&run->usage, &usage);
		if (child != NULL) {
			child->status = status;
			child->ended = 1;
		}
	}
	return pid == 0;
}

void
aide_pause(long usec)
{
	const struct timespec time = { 0, usec * 1000 };
	sigset_t set;

	(void)sigemptyset(&set);
	(void)sigaddset(&set, SIGCHLD);
	(void)sigtimedwait(&set, NULL, &time);
}

int
aide_wait(struct run *run, struct child *aide, long long deadline_usec)
{
	int late = 0;

	for (;;) {
		(void)aide_reap(run);
		if (aide->ended)
			break;
		if (!late && sys_now_usec() > deadline_usec) {
			(void)sys_pidfd_kill(aide->pidfd, SIGKILL);
			late = 1;
		}
		aide_pause(PAUSE_USEC);
	}
	(void)close(aide->pidfd);
	aide->pid = 0;
	return late || !WIFEXITED(aide->status) ? -1 :
	    WEXITSTATUS(aide->status);
}

void
aide_kill_children(void)
{
	char number[16];
	FILE *list;
	int pidfd;

	if ((list = fopen("/proc/thread-self/children", "re")) == NULL)
		return;
	while (fscanf(list, "%15s", number) == 1) {
		/* Not reaped yet, so the number can only be our child's. */
		if ((pidfd = sys_pidfd_open(atoi(number))) == -1)
			continue;
		(void)sys_pidfd_kill(pidfd, SIGKILL);
		(void)close(pidfd);
	}
	(void)fclose(list);
}

void
aide_end(struct child *child)
{
	if (child->pid == 0 || child->ended)
		return;
	(void)sys_pidfd_kill(child->pidfd, SIGKILL);
	(void)waitpid(child->pid, &child->status, 0);
	child->ended = 1;
}
