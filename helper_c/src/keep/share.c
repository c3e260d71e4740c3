/*
 * The monitor's share of the machine and the payload's: the caller's nice
 * value, class, processors, OOM score and limits are the payload's only.
 */
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/vfs.h>

#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "keep/share.h"
#include "privsep/sys.h"

/* linux/ioprio.h, which older distributions do not install. */
#define DISK_PROCESS		1
#define DISK_CLASS_SHIFT	13
#define DISK_NORMAL		2
#define DISK_IDLE		3

#define QUEUES_MAGIC		0x19800202	/* of the kernel's ipc/mqueue.c */

#define TIMER_NSEC		50000ul	/* how late a timer may be: the usual */

/*
 * POSIX queues outlive their maker, and only a mounted tree or an end of the
 * IPC namespace lets the cleaner find them: else none is to be made.
 */
static int
forbid_queues(const struct run *run)
{
	const struct rlimit none = { 0, 0 };
	struct statfs fs;

	if (run->mode != NULL || run->init.pid != 0 ||
	    (statfs("/dev/mqueue", &fs) == 0 && fs.f_type == QUEUES_MAGIC))
		return 0;
	return setrlimit(RLIMIT_MSGQUEUE, &none);
}

int
share_restore_limits(const struct run *run)
{
	int resource;

	for (resource = 0; resource < (int)RLIM_NLIMITS; resource++)
		if (resource != RLIMIT_CORE &&
		    setrlimit((__rlimit_resource_t)resource,
		    &run->limits[resource]) == -1)
			return -1;
	return forbid_queues(run);
}

static int
write_oom_score(int score)
{
	char text[16];

	(void)snprintf(text, sizeof(text), "%d", score);
	return sys_write_at(AT_FDCWD, "/proc/self/oom_score_adj", text);
}

/*
 * The monitor must outlive the payload, so it does not keep a bad share of
 * the machine: neither little of it, nor only one processor that others may
 * keep busy, nor timers that may be late. A real-time process may be limited so
 * that it is killed for working (RLIMIT_RTTIME); nobody gets such a class from
 * us.
 */
void
share_raise(struct run *run)
{
	const struct sched_param none = { 0 };
	struct share *share = &run->share;
	FILE *file = fopen("/proc/self/oom_score_adj", "re");
	cpu_set_t all;

	if (file != NULL && fscanf(file, "%d", &share->oom_score) == 1 &&
	    share->oom_score > 0)
		(void)write_oom_score(0);
	if (file != NULL)
		(void)fclose(file);
	if ((share->policy = sched_getscheduler(0)) > SCHED_OTHER)
		(void)sched_setscheduler(0, SCHED_OTHER, &none);
	share->nice = getpriority(PRIO_PROCESS, 0);
	if (share->nice > 0)
		(void)setpriority(PRIO_PROCESS, 0, 0);
	share->disk = (int)syscall(SYS_ioprio_get, DISK_PROCESS, 0);
	if (share->disk > 0)
		(void)syscall(SYS_ioprio_set, DISK_PROCESS, 0, 0);
	share->has_cpus = sched_getaffinity(0, sizeof(share->cpus),
	    &share->cpus) == 0;
	memset(&all, 0xff, sizeof(all));
	(void)sched_setaffinity(0, sizeof(all), &all);
	(void)prctl(PR_SET_TIMERSLACK, TIMER_NSEC, 0, 0, 0);
}

/* As root still: then the account cannot take it back. */
int
share_restore(const struct run *run)
{
	const struct sched_param none = { 0 };
	const struct share *share = &run->share;
	int disk = share->disk >> DISK_CLASS_SHIFT;

	if (share->oom_score > 0 && write_oom_score(share->oom_score) == -1)
		return -1;
	if (share->nice > 0 &&
	    setpriority(PRIO_PROCESS, 0, share->nice) == -1)
		return -1;
	if ((share->policy == SCHED_BATCH || share->policy == SCHED_IDLE) &&
	    sched_setscheduler(0, share->policy, &none) == -1)
		return -1;
	if ((disk == DISK_NORMAL || disk == DISK_IDLE) && syscall(
	    SYS_ioprio_set, DISK_PROCESS, 0, share->disk) == -1)
		return -1;
	return share->has_cpus ? sched_setaffinity(0, sizeof(share->cpus),
	    &share->cpus) : 0;
}
