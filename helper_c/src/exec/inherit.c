/*
 * Phase 0: what the caller left us, put right or refused.
 */
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/vfs.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/text.h"
#include "exec/inherit.h"
#include "privsep/switch.h"
#include "privsep/sys.h"

#define MIB	(1024ul * 1024ul)

int
inherit_descriptors(struct options *options, const char **wrong)
{
	struct stat st;
	int fd;

	for (fd = 0; fd <= STDERR_FILENO; fd++)
		if (fcntl(fd, F_GETFD) == -1 && (errno != EBADF ||
		    open("/dev/null", O_RDWR) != fd))
			return -1;
	fd = options->status_fd;
	if (fd == -1)
		return sys_close_from(PIL_STATUS_FD);
	options->status_fd = -1;
	if (fstat(fd, &st) == -1) {
		if (errno != EBADF)
			return -1;
		st.st_mode = 0;
	}
	if (!(S_ISFIFO(st.st_mode) || S_ISSOCK(st.st_mode))) {
		*wrong = "--status-fd is not an open pipe or socket";
		return sys_close_from(PIL_STATUS_FD);
	}
	if (fd == PIL_STATUS_FD ? fcntl(fd, F_SETFD, FD_CLOEXEC) == -1 :
	    dup3(fd, PIL_STATUS_FD, O_CLOEXEC) == -1)
		return -1;
	options->status_fd = PIL_STATUS_FD;
	return sys_close_from(PIL_STATUS_FD + 1);
}

/*
 * The two signals that the C library keeps for its threads are out of
 * signal()'s reach; posix_spawn(3) hands them on ignored, and so does make(1).
 */
static void
default_library_signals(void)
{
	struct {
		void		*handler;
		unsigned long	 flags;
		void		*restorer;
		unsigned long	 mask;
	} action = { NULL, 0, NULL, 0 };
	int sig;

	for (sig = 32; sig < SIGRTMIN; sig++)
		(void)syscall(SYS_rt_sigaction, sig, &action, NULL,
		    sizeof(action.mask));
}

/*
 * Everything blocked for good: front and monitor take signals by signalfd.
 * SIGPIPE and SIGXFSZ become errors of write(); no timer of the caller's is
 * left to end us.
 */
int
inherit_signals(void)
{
	const struct itimerval never = { { 0, 0 }, { 0, 0 } };
	sigset_t all;
	int sig;

	(void)sigfillset(&all);
	if (sigprocmask(SIG_SETMASK, &all, NULL) == -1)
		return -1;
	for (sig = 1; sig < _NSIG; sig++)
		(void)signal(sig, sig == SIGPIPE || sig == SIGXFSZ ?
		    SIG_IGN : SIG_DFL);
	default_library_signals();
	(void)setitimer(ITIMER_REAL, &never, NULL);
	(void)setitimer(ITIMER_VIRTUAL, &never, NULL);
	(void)setitimer(ITIMER_PROF, &never, NULL);
	return 0;
}

/*
 * Effective uid 0 proves nothing inside a user namespace; the full identity
 * map, read from a real procfs, does.
 */
static int
in_first_namespace(void)
{
	int fd = open("/proc/self/uid_map", O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	unsigned inside, outside, count;
	struct statfs fs;
	char text[128], more;
	ssize_t n;

	if (fd == -1)
		return 0;
	n = read(fd, text, sizeof(text) - 1);
	if (fstatfs(fd, &fs) == -1 || fs.f_type != PROC_SUPER_MAGIC)
		n = -1;
	(void)close(fd);
	if (n <= 0)
		return 0;
	text[n] = '\0';
	return sscanf(text, "%u %u %u %c", &inside, &outside, &count,
	    &more) == 3 && inside == 0 && outside == 0 && count == 0xffffffff;
}

enum pil_reason
inherit_ids(char *detail)
{
	uid_t r, e, s;
	gid_t rg, eg, sg;

	if (!in_first_namespace()) {
		pil_detail(detail, "/proc/self/uid_map is not the whole "
		    "identity map");
		return PIL_HELPER_USER_NAMESPACE;
	}
	if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 0) {
		pil_detail(detail, "no_new_privs is set: the set-user-id bit "
		    "has no effect");
		return PIL_HELPER_NO_NEW_PRIVS;
	}
	if (getresuid(&r, &e, &s) == -1 || getresgid(&rg, &eg, &sg) == -1 ||
	    e != 0 || s != 0 || rg != eg || rg != sg ||
	    !switch_has_capabilities()) {
		pil_detail(detail, "the program must be root's, mode 4711, on "
		    "a file system without nosuid");
		return PIL_HELPER_PRIVILEGE;
	}
	return PIL_OK;
}

#define PROCESSES	64

static const struct rlimit no_limit = { RLIM_INFINITY, RLIM_INFINITY };

/*
 * What the helper itself needs; the payload gets the caller's limits again. The
 * log may be longer than any minimum, and how long a monitor works is the
 * caller's doing: so no end is set to these two where root may lift it.
 */
static const struct {
	const char	*name;
	rlim_t		 minimum;
	int		 resource;
	int		 lift;
} needs[] = {
	{ "FSIZE", 64 * MIB, RLIMIT_FSIZE, 1 },
	{ "NOFILE", 64, RLIMIT_NOFILE, 0 },
	{ "AS", 64 * MIB, RLIMIT_AS, 0 },
	{ "DATA", 32 * MIB, RLIMIT_DATA, 0 },
	{ "STACK", MIB, RLIMIT_STACK, 0 },
	{ "CPU", 60, RLIMIT_CPU, 1 },
};

/*
 * Verifier, cleaner and the rest are processes of accounts that may have many,
 * and a caller's limit would keep them from execve (helper.md D2): none, or at
 * least enough where root may not raise it.
 */
static int
lift_processes(const struct rlimit *callers)
{
	struct rlimit limit = no_limit;

	if (setrlimit(RLIMIT_NPROC, &limit) == 0)
		return 0;
	if (callers->rlim_max < PROCESSES)
		return -1;
	limit.rlim_cur = limit.rlim_max = callers->rlim_max;
	return setrlimit(RLIMIT_NPROC, &limit);
}

enum pil_reason
inherit_limits(struct call *call, char *detail)
{
	struct rlimit limit;
	size_t i;
	int resource;

	for (resource = 0; resource < (int)RLIM_NLIMITS; resource++)
		if (getrlimit((__rlimit_resource_t)resource,
		    &call->limits[resource]) == -1)
			return PIL_HELPER_SYSTEM;
	for (i = 0; i < sizeof(needs) / sizeof(needs[0]); i++) {
		__rlimit_resource_t which =
		    (__rlimit_resource_t)needs[i].resource;

		if (needs[i].lift && setrlimit(which, &no_limit) == 0)
			continue;
		limit = call->limits[needs[i].resource];
		if (limit.rlim_max < needs[i].minimum)
			limit.rlim_max = needs[i].minimum;
		limit.rlim_cur = limit.rlim_max;
		if (setrlimit(which, &limit) == 0)
			continue;
		pil_detail(detail, "RLIMIT_%s is less than %llu and cannot be "
		    "raised", needs[i].name,
		    (unsigned long long)needs[i].minimum);
		return PIL_HELPER_LIMITS;
	}
	if (lift_processes(&call->limits[RLIMIT_NPROC]) == -1) {
		pil_detail(detail, "RLIMIT_NPROC is less than %d and cannot "
		    "be raised", PROCESSES);
		return PIL_HELPER_LIMITS;
	}
	limit = call->limits[RLIMIT_CORE];
	limit.rlim_cur = 0;
	if (setrlimit(RLIMIT_CORE, &limit) == -1 ||
	    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == -1) {
		pil_detail(detail, "core dumps: %s", strerror(errno));
		return PIL_HELPER_SYSTEM;
	}
	return PIL_OK;
}
