/*
 * Run a program as an unprivileged account and let one of its system calls
 * fail (helper.md, head of section 3).
 *
 *	inject EXE[,EXE...] REPORT ERRNO WHICH UID GID[,GID...] PROGRAM [ARG ...]
 *
 * Root installs a seccomp filter without no_new_privs, so that a set-user-id
 * PROGRAM still becomes root. Each call of a process whose program is an EXE is
 * written to REPORT as "P.K NAME": the K-th call of the P-th such process.
 * The calls that WHICH names fail with ERRNO: "P.K", a system call's number,
 * or "NUMBER:ARG=VALUE"; "-" lets all pass. Ends when every process is gone,
 * with the exit code of the first one.
 */
#include <sys/ioctl.h>

#include <errno.h>
#include <grp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "listen.h"

#define PROCESSES	64

struct which {
	int		 process, call;		/* -1: by number */
	int		 number, arg;		/* arg -1: any arguments */
	unsigned	 value;
};

static struct {
	pid_t	pid;
	int	calls;
} seen[PROCESSES];

/* Calls that cannot fail, or without which no process can even end. */
static const int passing[] = { SYS_exit, SYS_exit_group, SYS_rt_sigreturn,
    SYS_sched_yield, SYS_getpid, SYS_getppid, SYS_getuid, SYS_getgid,
    SYS_geteuid, SYS_umask, SYS_rseq, SYS_set_robust_list,
    SYS_set_tid_address, SYS_close, SYS_brk };

static void
become(const char *uid, char *gids)
{
	gid_t groups[64], gid = 0;
	size_t n = 0;
	char *word;

	for (word = strtok(gids, ","); word != NULL && n < 64;
	    word = strtok(NULL, ","))
		groups[n++] = (gid_t)strtoul(word, NULL, 10);
	gid = groups[0];
	if (n == 0 || setgroups(n, groups) == -1 ||
	    setresgid(gid, gid, gid) == -1)
		fail("groups");
	if (setresuid((uid_t)atoll(uid), (uid_t)atoll(uid), (uid_t)atoll(uid)))
		fail("setresuid");
}

static struct which
parse(const char *text)
{
	struct which w = { -1, -1, -1, -1, 0 };

	if (strchr(text, '.') != NULL) {
		if (sscanf(text, "%d.%d", &w.process, &w.call) != 2)
			fail("WHICH");
	} else if (strchr(text, ':') != NULL) {
		if (sscanf(text, "%d:%d=%u", &w.number, &w.arg, &w.value) != 3)
			fail("WHICH");
	} else if (strcmp(text, "-") != 0)
		w.number = atoi(text);
	return w;
}

/* The number of the process, in the order in which they were first seen. */
static int
process_of(pid_t pid)
{
	int p;

	for (p = 0; p < PROCESSES - 1; p++)
		if (seen[p].pid == pid || seen[p].pid == 0)
			break;
	seen[p].pid = pid;
	return p;
}

static int
is_ours(pid_t pid, const char *exe)
{
	char path[64], found[4096];
	ssize_t n;

	(void)snprintf(path, sizeof(path), "/proc/%d/exe", pid);
	if ((n = readlink(path, found, sizeof(found) - 1)) == -1)
		return 0;
	found[n] = '\0';
	/* One word of the list, and not the beginning of a longer one. */
	exe = strstr(exe, found);
	return exe != NULL && (exe[n] == ',' || exe[n] == '\0');
}

static void
serve(int listener, const char *exe, FILE *report, int error, struct which w)
{
	struct pollfd pfd = { .fd = listener, .events = POLLIN };
	struct seccomp_notif_resp answer;
	struct seccomp_notif call;
	int p, k, hit;

	for (;;) {
		if (poll(&pfd, 1, -1) == -1)
			continue;
		if (!(pfd.revents & POLLIN))
			return;
		memset(&call, 0, sizeof(call));
		if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &call) == -1)
			continue;
		memset(&answer, 0, sizeof(answer));
		answer.id = call.id;
		answer.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
		if (is_ours((pid_t)call.pid, exe)) {
			p = process_of((pid_t)call.pid);
			k = seen[p].calls++;
			hit = w.process == -1 ? w.number == call.data.nr &&
			    (w.arg == -1 || (unsigned)call.data.args[w.arg] ==
			    w.value) : p == w.process && k == w.call;
			fprintf(report, "%d.%d %d%s\n", p, k, call.data.nr,
			    hit ? " failed" : "");
			if (hit) {
				answer.flags = 0;
				answer.error = -error;
			}
		}
		(void)ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &answer);
	}
}

int
main(int argc, char **argv)
{
	struct shared *shared = listen_share();
	int listener, null;
	FILE *report;
	pid_t pid;

	if (argc < 8 || (report = fopen(argv[2], "we")) == NULL)
		fail("arguments");
	if ((pid = fork()) == 0) {
		listen_install(shared, passing,
		    sizeof(passing) / sizeof(passing[0]), SECCOMP_RET_ALLOW,
		    SECCOMP_RET_USER_NOTIF);
		become(argv[5], argv[6]);
		(void)execv(argv[7], argv + 7);
		_exit(98);
	}
	listener = listen_take(shared, pid);
	(void)setvbuf(report, NULL, _IOLBF, 0);
	seen[0].pid = pid;
	shared->taken = 1;
	/* Ends of pipes are theirs alone. */
	for (null = 0; null < 64; null++)
		if (null != listener && null != fileno(report))
			(void)close(null);
	serve(listener, argv[1], report, atoi(argv[3]), parse(argv[4]));
	(void)fclose(report);
	return listen_end(pid);
}
