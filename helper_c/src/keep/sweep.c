/*
 * What the account leaves behind, removed with the account's rights only: root
 * deletes nothing and signals nobody by uid.
 */
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "keep/aide.h"
#include "keep/become.h"
#include "keep/cgroup.h"
#include "keep/glexec.h"
#include "keep/sweep.h"
#include "privsep/switch.h"
#include "privsep/sys.h"

#define KILL_USEC	2000000
#define FILES_USEC	60000000
#define STILL		3	/* seconds; file systems count in two at most */
#define NSHARED		5
#define MANY		250	/* an exit status counts no further */

/* Where everybody may leave files. */
static const char *const shared[NSHARED] = { "/tmp", "/var/tmp", "/dev/shm",
    "/dev/mqueue", "/run/lock" };
/* As they were before they were gone through; empty when they are not. */
static struct stat seen[NSHARED];

/* A dead process whose parent has not waited for it runs no more. */
static int
is_zombie(int proc, const char *pid)
{
	char path[64], text[512], *state;
	ssize_t n;
	int fd;

	(void)snprintf(path, sizeof(path), "%.20s/stat", pid);
	if ((fd = openat(proc, path, O_RDONLY | O_CLOEXEC)) == -1)
		return 0;
	n = read(fd, text, sizeof(text) - 1);
	(void)close(fd);
	text[n > 0 ? n : 0] = '\0';
	/* The name before it may hold anything, even brackets. */
	state = strrchr(text, ')');
	return state != NULL && state[1] == ' ' && state[2] == 'Z';
}

/* Only processes of the uid can be signalled here; kill(0) finds them. */
static int
count_processes(void)
{
	DIR *dir = opendir("/proc");
	struct dirent *entry;
	int n = 0;

	if (dir == NULL)
		return 1;
	while (n < MANY && (entry = readdir(dir)) != NULL)
		if (isdigit((unsigned char)entry->d_name[0]) &&
		    atoi(entry->d_name) != getpid() &&
		    kill(atoi(entry->d_name), 0) == 0 &&
		    !is_zombie(dirfd(dir), entry->d_name))
			n++;
	(void)closedir(dir);
	return n;
}

/*
 * kill(-1) reaches every process of the uid in one call, but a fork bomb needs
 * many of them. The uid is another's, so -1 spares root and everybody else.
 */
static int
kill_all(const struct run *run, void *arg)
{
	const struct ids target = { run->map.uid, run->map.gid };
	const struct timespec pause = { 0, 1000 * 1000 };
	long long deadline = sys_now_usec() + KILL_USEC;
	int left = 0;

	(void)arg;
	if (sys_close_from(3) == -1 || switch_beside(&target) == -1)
		return MANY + 1;
	/* Linux answers 0 also when there was nothing that it may signal. */
	while (kill(-1, SIGKILL) == 0 && (left = count_processes()) != 0 &&
	    sys_now_usec() < deadline)
		(void)nanosleep(&pause, NULL);
	return left;
}

/*
 * Is nobody of the uid left? The kernel goes through its list of processes to
 * the end, where it adds new ones, so one that forks and ends cannot be passed
 * over, as it can be in a reading of /proc.
 */
static int
is_nobody_left(const struct run *run)
{
	errno = 0;
	return getpriority(PRIO_USER, run->map.uid) == -1 && errno == ESRCH;
}

int
sweep_processes(struct run *run)
{
	int left;

	if (is_nobody_left(run))
		return 0;
	if (aide_start(run, &run->aide, kill_all, NULL) == -1)
		return -1;
	left = aide_wait(run, &run->aide, sys_now_usec() + 2 * KILL_USEC);
	return left > MANY ? -1 : left;
}

/* As the account, so that no number can lead to anybody else's process. */
static int
signal_all(const struct run *run, void *arg)
{
	const struct ids target = { run->map.uid, run->map.gid };
	int fd, pid, sig = *(int *)arg;
	FILE *list;

	fd = openat(cgroup_unified(run), "cgroup.procs",
	    O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd == -1 || dup2(fd, 3) == -1 || sys_close_from(4) == -1 ||
	    switch_beside(&target) == -1 ||
	    (list = fdopen(3, "r")) == NULL)
		return 1;
	while (fscanf(list, "%d", &pid) == 1)
		if (pid > 0)
			(void)kill(pid, sig);
	return 0;
}

int
sweep_signal(struct run *run, int sig)
{
	return cgroup_unified(run) == -1 ||
	    aide_start(run, &run->aide, signal_all, &sig) == -1 ? -1 :
	    aide_wait(run, &run->aide, sys_now_usec() + KILL_USEC);
}

/* The deleting itself is another program's, as the account. */
static int
remove_all(const struct run *run, void *arg)
{
	char **argv = arg, *environment[] = { NULL };

	argv[1] = (char *)(uintptr_t)run->map.home;
	if (sys_close_from(3) == -1 ||
	    become_account(run) == -1 ||
	    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == -1)
		return MANY + 1;
	if (strcmp(argv[2], run->id) == 0)
		glexec_leave(run);
	(void)execve(PILOTAGE_SWEEP, argv, environment);
	return MANY + 1;
}

/*
 * A directory that has not changed since the account was last cleaned as a
 * whole has nothing of it; nobody but the kernel sets the time of that change.
 * One that has just changed may change again within the same tick.
 */
static int
is_as_it_was(const char *path, const struct stat *then, struct stat *now)
{
	if (fstatat(AT_FDCWD, path, now, AT_SYMLINK_NOFOLLOW) == -1)
		return errno == ENOENT;
	if (now->st_ctim.tv_sec > time(NULL) - STILL)
		now->st_ino = 0;
	return now->st_ino != 0 && now->st_ino == then->st_ino &&
	    now->st_dev == then->st_dev && memcmp(&now->st_ctim,
	    &then->st_ctim, sizeof(now->st_ctim)) == 0;
}

void
sweep_begin(struct run *run, const char *run_id, int everything)
{
	char *argv[5 + NSHARED] = { (char *)(uintptr_t)"pilotage-sweep", NULL,
	    (char *)(uintptr_t)run_id,
	    (char *)(uintptr_t)(everything ? "account" : "run"), NULL };
	struct stat then[NSHARED] = { 0 };
	int i, n = 4;

	memset(seen, 0, sizeof(seen));
	/* Noted in the account's lock, which is held. */
	if (everything && pread(run->slot.lock, then, sizeof(then), 0) !=
	    sizeof(then))
		memset(then, 0, sizeof(then));
	for (i = 0; everything && i < NSHARED; i++)
		if (!is_as_it_was(shared[i], &then[i], &seen[i]))
			argv[n++] = (char *)(uintptr_t)shared[i];
	/* Without a process sweep_end() has none to wait for. */
	(void)aide_start(run, &run->aide, remove_all, argv);
}

int
sweep_end(struct run *run)
{
	int left = run->aide.pid == 0 ? -1 : aide_wait(run, &run->aide,
	    sys_now_usec() + FILES_USEC);

	if (left == 0)
		(void)!pwrite(run->slot.lock, seen, sizeof(seen), 0);
	return left > MANY ? -1 : left;
}
