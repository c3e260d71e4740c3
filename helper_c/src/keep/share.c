/*
 * The monitor's share of the machine and the payload's: the caller's nice
 * value, OOM score and limits are the payload's only.
 */
#include <sys/resource.h>

#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "keep/share.h"
#include "privsep/sys.h"

int
share_restore_limits(const struct run *run)
{
	int resource;

	for (resource = 0; resource < (int)RLIM_NLIMITS; resource++)
		if (resource != RLIMIT_CORE &&
		    setrlimit((__rlimit_resource_t)resource,
		    &run->limits[resource]) == -1)
			return -1;
	return 0;
}

static int
write_oom_score(int score)
{
	char text[16];
	int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC), failed;

	if (fd == -1)
		return -1;
	(void)snprintf(text, sizeof(text), "%d", score);
	failed = sys_write_all(fd, text, strlen(text));
	(void)close(fd);
	return failed;
}

/*
 * The monitor must outlive the payload, so it does not keep a bad share of
 * the machine. A real-time process may be limited so that it is killed for
 * working (RLIMIT_RTTIME); nobody gets such a class from us.
 */
void
share_raise(struct run *run)
{
	const struct sched_param none = { 0 };
	int policy = sched_getscheduler(0);
	FILE *file = fopen("/proc/self/oom_score_adj", "re");

	if (file != NULL && fscanf(file, "%d", &run->oom_score) == 1 &&
	    run->oom_score > 0)
		(void)write_oom_score(0);
	if (file != NULL)
		(void)fclose(file);
	if (policy == SCHED_FIFO || policy == SCHED_RR)
		(void)sched_setscheduler(0, SCHED_OTHER, &none);
	run->nice = getpriority(PRIO_PROCESS, 0);
	if (run->nice > 0)
		(void)setpriority(PRIO_PROCESS, 0, 0);
}

/* As root still: then the account cannot take it back. */
int
share_restore(const struct run *run)
{
	if (run->oom_score > 0 && write_oom_score(run->oom_score) == -1)
		return -1;
	return run->nice > 0 ? setpriority(PRIO_PROCESS, 0, run->nice) : 0;
}
