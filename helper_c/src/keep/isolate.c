/*
 * The payload's own PID, mount and IPC namespaces.
 *
 * Their first process is a small init of ours: a payload in its place would
 * be deaf to TERM and would not reap. It mounts while it is root, becomes the
 * account and then only reaps. When it ends the kernel ends all others in
 * there, and it ends with the monitor. The payload's main process is the
 * monitor's own child all the same, so its status and signals need no relay.
 *
 * All that needs the user database has been asked before (CVE-2025-32463).
 */
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/text.h"
#include "keep/cgroup.h"
#include "keep/isolate.h"
#include "keep/proxyfile.h"
#include "privsep/switch.h"
#include "privsep/sys.h"

#define READY_FD	3
#define READY_USEC	5000000
#define MOUNTS		(CLONE_NEWNS | CLONE_NEWIPC)

static const char *const scratch[] = { "/tmp", "/var/tmp", "/dev/shm" };

/*
 * Nothing mounted here reaches the machine's tree. What the machine mounts
 * later, such as automounted software, still arrives here: hence slave, not
 * private.
 */
static int
mount_all(const struct run *run, char *detail)
{
	const char *where = "/";
	char options[64];
	size_t i;

	(void)snprintf(options, sizeof(options), "mode=1777,size=%llu",
	    run->config.tmp_bytes);
	if (mount(NULL, where, NULL, MS_REC | MS_SLAVE, NULL) == -1)
		goto failed;
	for (i = 0; i < sizeof(scratch) / sizeof(scratch[0]); i++) {
		where = scratch[i];
		if (mount("tmpfs", where, "tmpfs", MS_NOSUID | MS_NODEV,
		    options) == -1 && errno != ENOENT)
			goto failed;
	}
	where = "/proc";
	if (mount("proc", where, "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC,
	    NULL) == 0)
		return 0;
failed:
	pil_detail(detail, "mount on %s: %s", where, strerror(errno));
	return -1;
}

/* The answer is one text: empty when all is made. */
static void
init(const struct run *run, int ready)
{
	const struct ids account = { run->map.uid, run->map.gid };
	char detail[PIL_DETAIL_SIZE] = "";
	sigset_t child;

	proxyfile_forget(run);
	if (cgroup_enter(&run->cgroup) == -1)
		pil_detail(detail, "control groups: %s", strerror(errno));
	if ((ready = fcntl(ready, F_DUPFD_CLOEXEC, 16)) == -1 ||
	    dup2(ready, READY_FD) == -1 || sys_close_from(READY_FD + 1) == -1 ||
	    sys_let_go(STDIN_FILENO, STDERR_FILENO) == -1)
		_exit(202);
	/* The change of uid clears PDEATHSIG, so it comes last. */
	if (detail[0] == '\0' && mount_all(run, detail) == 0 &&
	    (switch_to(&account, NULL, 0) == -1 ||
	    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == -1 ||
	    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) == -1))
		pil_detail(detail, "init: %s", strerror(errno));
	/* A monitor that has died already reads nothing: EPIPE. */
	if (sys_write_all(READY_FD, detail, strlen(detail) + 1) == -1 ||
	    detail[0] != '\0')
		_exit(202);
	(void)close(READY_FD);
	(void)sigemptyset(&child);
	(void)sigaddset(&child, SIGCHLD);
	for (;;) {
		while (waitpid(-1, NULL, WNOHANG) > 0)
			;
		(void)sigwaitinfo(&child, NULL);
	}
}

static void
hear_init(int ready, char *detail)
{
	ssize_t n = -1;

	if (sys_wait(ready, POLLIN, sys_now_usec() + READY_USEC) == 1)
		n = read(ready, detail, PIL_DETAIL_SIZE - 1);
	if (n > 0)
		detail[n] = '\0';
	else
		pil_detail(detail, "init gave no answer");
}

int
isolate_make(struct run *run, char *detail)
{
	struct child *child = &run->init;
	int ready[2], placed;

	if (pipe2(ready, O_CLOEXEC) == -1) {
		pil_detail(detail, "%s", strerror(errno));
		return -1;
	}
	child->pid = sys_clone(CLONE_NEWPID | MOUNTS, cgroup_unified(run),
	    &child->pidfd, &placed);
	if (child->pid == 0) {
		init(run, ready[1]);
		_exit(202);	/* never reached; fail safe */
	}
	(void)close(ready[1]);
	if (child->pid == -1) {
		child->pid = 0;
		pil_detail(detail, "new namespaces: %s", strerror(errno));
	} else
		hear_init(ready[0], detail);
	(void)close(ready[0]);
	if (child->pid == 0 || detail[0] != '\0')
		return -1;
	/* Our own process as a way back; and by pidfd since Linux 5.8. */
	if ((run->outside = sys_pidfd_open(getpid())) != -1 &&
	    setns(child->pidfd, CLONE_NEWPID) == 0)
		return 0;
	pil_detail(detail, "setns: %s", strerror(errno));
	return -1;
}

int
isolate_leave(struct run *run)
{
	if (run->init.pid == 0)
		return 0;
	if (setns(run->outside, CLONE_NEWPID) == -1)
		return -1;
	return close(run->outside);
}

int
isolate_join(const struct run *run)
{
	return run->init.pid == 0 ? 0 : setns(run->init.pidfd, MOUNTS);
}

const char *
isolate_name(const struct run *run)
{
	return run->init.pid != 0 ? "namespaces" : "none";
}
