/*
 * Phase 3: the payload's process, from root to the account to the command.
 */
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/keyctl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/text.h"
#include "keep/become.h"
#include "keep/cgroup.h"
#include "keep/glexec.h"
#include "keep/isolate.h"
#include "keep/payload.h"
#include "keep/rundir.h"
#include "keep/share.h"
#include "privsep/sys.h"

#define FAILED_FD	3

/* Where the monitor hears what failed; its first place, then FAILED_FD. */
static int tell_fd;

static void give_up(enum pil_reason, int code, const char *fmt, ...)
    __attribute__((noreturn, format(printf, 3, 4)));

static void
give_up(enum pil_reason reason, int code, const char *fmt, ...)
{
	struct failure failure = { .reason = reason, .code = code };
	va_list ap;

	va_start(ap, fmt);
	pil_vdetail(failure.detail, fmt, ap);
	va_end(ap);
	/* If the monitor is gone there is nobody to tell. */
	(void)!write(tell_fd, &failure, sizeof(failure));
	_exit(202);
}

struct environment {
	char	 text[12 * (PATH_MAX + 64)];
	char	*list[13 + GLEXEC_VARIABLES_MAX];
	size_t	 len, n;
};

static void
set(struct environment *env, const char *name, const char *value)
{
	char *text = env->text + env->len;
	size_t room = sizeof(env->text) - env->len;
	int len = snprintf(text, room, "%s=%s", name, value);

	if (len < 0 || (size_t)len >= room)
		give_up(PIL_HELPER_SYSTEM, 0, "%s is too long", name);
	env->list[env->n++] = text;
	env->len += (size_t)len + 1;
}

/* Built from nothing; the caller's variables get here by name or not at all. */
static void
build_environment(const struct run *run, struct environment *env)
{
	char path[PATH_MAX];

	set(env, "HOME", run->map.home);
	set(env, "USER", run->map.account);
	set(env, "LOGNAME", run->map.account);
	set(env, "SHELL", "/bin/sh");
	set(env, "PATH", "/usr/local/bin:/usr/bin:/bin");
	set(env, "LANG", "C.UTF-8");
	set(env, "PILOTAGE_RUN_ID", run->id);
	set(env, "PILOTAGE_JOB_ID", run->options.job_id);
	if (!run->options.no_target) {
		if (run->options.glexec)
			glexec_target(run, path, sizeof(path));
		else
			rundir_path(run, "proxy", path, sizeof(path));
		set(env, "X509_USER_PROXY", path);
	}
	if (run->options.glexec) {
		if (glexec_environment(run, env->list + env->n) == -1)
			give_up(PIL_HELPER_USAGE, 0, "more than %d GLEXEC_ "
			    "variables", GLEXEC_VARIABLES_MAX);
		return;
	}
	rundir_path(run, "tmp", path, sizeof(path));
	set(env, "TMPDIR", path);
	rundir_path(run, "", path, sizeof(path));
	set(env, "PILOTAGE_RUN_DIR", path);
}

/* Step 20 to 22: the account for good, and a parent that is still there. */
static void
settle(const struct run *run)
{
	if (become_account(run) == -1)
		give_up(PIL_SWITCH_FAILED, 0, "switch to %s: %s",
		    run->map.account, strerror(errno));
	if (run->config.no_new_privs &&
	    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == -1)
		give_up(PIL_SWITCH_FAILED, 0, "no_new_privs: %s",
		    strerror(errno));
	/* The change of uid has cleared it; from here it holds until execve. */
	if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) == -1)
		give_up(PIL_SWITCH_FAILED, 0, "PDEATHSIG: %s", strerror(errno));
	/*
	 * The caller's session keyring stays with the caller. Where the call is
	 * missing or barred the payload cannot reach a keyring either.
	 */
	if (syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL) == -1 &&
	    errno != ENOSYS && errno != EPERM)
		give_up(PIL_SWITCH_FAILED, 0, "keyring: %s", strerror(errno));
}

static void
execute(const struct run *run, char **environment)
{
	const char *command;
	struct stat st;
	sigset_t none;
	int error;

	if (run->options.command == NULL)
		_exit(0);
	command = run->options.command[0];
	if (lstat(command, &st) == -1)
		give_up(PIL_COMMAND_UNUSABLE, errno == EACCES ? 126 : 0,
		    "%s: %s", command, strerror(errno));
	if (!S_ISREG(st.st_mode))
		give_up(PIL_COMMAND_UNUSABLE, 0, "%s: %s", command,
		    S_ISLNK(st.st_mode) ? "a symbolic link" :
		    "not a regular file");
	(void)signal(SIGPIPE, SIG_DFL);
	(void)signal(SIGXFSZ, SIG_DFL);
	(void)sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
	(void)execve(command, run->options.command, environment);
	error = errno;
	if (error == EAGAIN || error == ENOMEM || error == EMFILE ||
	    error == ENFILE || error == EIO)
		give_up(PIL_HELPER_SYSTEM, 0, "%s: %s", command,
		    strerror(error));
	give_up(PIL_COMMAND_UNUSABLE, error == ENOENT || error == ENOTDIR ? 0 :
	    126, "%s: %s", command, strerror(error));
}

static void
payload(const struct run *run, int go, int failed)
{
	static struct environment environment;
	struct pollfd alive = { .fd = FAILED_FD + 1 };
	char detail[PIL_DETAIL_SIZE], byte;
	enum pil_reason reason;
	ssize_t n;
	int lost = 0;

	tell_fd = failed;
	if (cgroup_enter(&run->cgroup) == -1)
		give_up(PIL_CGROUP_FAILED, 0, "control groups: %s",
		    strerror(errno));
	if (share_restore(run) == -1)
		give_up(PIL_HELPER_SYSTEM, 0, "the caller's share: %s",
		    strerror(errno));
	/* Before the descriptors go. */
	if (isolate_join(run) == -1)
		give_up(PIL_HELPER_SYSTEM, 0, "setns: %s", strerror(errno));
	/* Out of the way first, so that neither lands on the other. */
	if ((go = fcntl(go, F_DUPFD_CLOEXEC, 16)) == -1 ||
	    (failed = fcntl(failed, F_DUPFD_CLOEXEC, 16)) == -1 ||
	    dup3(failed, FAILED_FD, O_CLOEXEC) == -1 ||
	    dup3(go, FAILED_FD + 1, O_CLOEXEC) == -1 ||
	    sys_close_from(FAILED_FD + 2) == -1)
		give_up(PIL_HELPER_SYSTEM, 0, "descriptors: %s",
		    strerror(errno));
	tell_fd = FAILED_FD;
	if (setsid() == -1)
		give_up(PIL_HELPER_SYSTEM, 0, "setsid: %s", strerror(errno));
	settle(run);
	/*
	 * The monitor has logged START and found us a cgroup. It keeps its end
	 * of the pipe open: a hangup means that it died before PDEATHSIG held.
	 */
	if ((n = read(FAILED_FD + 1, &byte, 1)) == -1 ||
	    (lost = poll(&alive, 1, 0)) == -1)
		give_up(PIL_HELPER_SYSTEM, 0, "waiting: %s", strerror(errno));
	if (n == 0 || lost != 0 || close(FAILED_FD + 1) == -1)
		_exit(202);
	if (!(run->owner_decision == PERMIT_OWNER &&
	    run->account_decision == PERMIT_ACCOUNT))
		give_up(PIL_HELPER_SYSTEM, 0, "nobody has permitted this run");
	reason = run->options.glexec ? glexec_enter(run, detail) :
	    rundir_enter(run, detail);
	if (reason != PIL_OK)
		give_up(reason, 0, "%s", detail);
	build_environment(run, &environment);
	if (sys_close_from(FAILED_FD + 1) == -1 ||
	    share_restore_limits(run) == -1)
		give_up(PIL_HELPER_SYSTEM, 0, "descriptors and limits: %s",
		    strerror(errno));
	execute(run, environment.list);
}

int
payload_clone(struct run *run, struct start *start)
{
	int go[2], failed[2], placed;

	if (pipe2(go, O_CLOEXEC) == -1 || pipe2(failed, O_CLOEXEC) == -1)
		return -1;
	run->payload.pid = sys_clone(0, cgroup_unified(run),
	    &run->payload.pidfd, &placed);
	if (run->payload.pid == 0) {
		payload(run, go[0], failed[1]);
		_exit(202);	/* never reached; fail safe */
	}
	(void)close(go[0]);
	(void)close(failed[1]);
	start->go = go[1];
	start->failed = failed[0];
	if (run->payload.pid == -1) {
		run->payload.pid = 0;
		return -1;
	}
	if (isolate_leave(run) == -1)
		return -1;
	return placed ? 0 : cgroup_place(&run->cgroup, run->payload.pid);
}
