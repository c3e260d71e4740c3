/*
 * Look into the helper's processes, or signal them, as often as possible and
 * from their first moment on (D5, D7, E2). Ends after the time, at TERM or
 * with PID, and prints what worked, once each.
 *	look MILLISECONDS [PID]		of PID and its children, or of all
 *	signal MILLISECONDS PID		KILL to the children of PID
 *	signal-root MILLISECONDS PID	to those whose real uid is root's
 */
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static unsigned long tried, seen;
static int only_root;
static volatile sig_atomic_t ended;
static char told[64][64];

static void
stop(int sig)
{
	(void)sig;
	ended = 1;
}

static void
tell(const char *what, const char *name)
{
	char line[64];
	size_t i;

	(void)snprintf(line, sizeof(line), "%s %s", what, name);
	for (i = 0; i < 63 && told[i][0] != '\0'; i++)
		if (strcmp(told[i], line) == 0)
			return;
	(void)strcpy(told[i], line);
}

static int
name_of(int pid, char *name, size_t size)
{
	char path[64];
	ssize_t n = -1;
	int fd;

	(void)snprintf(path, sizeof(path), "/proc/%d/comm", pid);
	if ((fd = open(path, O_RDONLY)) != -1) {
		n = read(fd, name, size - 1);
		(void)close(fd);
	}
	name[n > 0 ? n - 1 : 0] = '\0';
	return n > 0 && strncmp(name, "pilotage-", 9) == 0;
}

static void
look_into(int pid)
{
	static const struct {
		const char	*name;
		int		 flags;
	} files[] = { { "mem", O_RDONLY }, { "mem", O_WRONLY },
	    { "environ", O_RDONLY }, { "maps", O_RDONLY },
	    { "auxv", O_RDONLY }, { "fd", O_RDONLY | O_DIRECTORY },
	    { "exe", O_RDONLY }, { "exe", O_WRONLY }, { "cwd", O_RDONLY },
	    { "root", O_RDONLY }, { "clear_refs", O_WRONLY },
	    { "ns/mnt", O_RDONLY } };
	char path[64], name[32], word[8], *argv[2];
	struct iovec here = { word, sizeof(word) };
	struct iovec there = { argv, sizeof(word) };
	int fd, pidfd;
	size_t i;

	/* Before each attempt: it must be the helper's when we try. */
#define OURS	(name_of(pid, name, sizeof(name)) && \
		    strcmp(name, "pilotage-contro") != 0)
	if (!OURS)
		return;
	seen++;
	for (i = 0; i < sizeof(files) / sizeof(files[0]) && OURS; i++) {
		(void)snprintf(path, sizeof(path), "/proc/%d/%s", pid,
		    files[i].name);
		tried++;
		if ((fd = open(path, files[i].flags)) == -1)
			continue;
		/* Permission may be judged by the read. */
		if ((files[i].flags & (O_WRONLY | O_DIRECTORY)) != 0 ||
		    read(fd, word, sizeof(word)) > 0)
			tell(files[i].name, name);
		(void)close(fd);
	}
	if (OURS && process_vm_readv(pid, &here, 1, &there, 1, 0) != -1)
		tell("process_vm_readv", name);
	if (OURS && process_vm_writev(pid, &here, 1, &there, 1, 0) != -1)
		tell("process_vm_writev", name);
	if (OURS && (pidfd = (int)syscall(SYS_pidfd_open, pid, 0)) != -1) {
		for (fd = 0; fd < 8; fd++)
			if (syscall(SYS_pidfd_getfd, pidfd, fd, 0) != -1)
				tell("pidfd_getfd", name);
		(void)close(pidfd);
	}
	if (OURS && ptrace(PTRACE_SEIZE, pid, NULL, NULL) == 0) {
		tell("ptrace", name);
		(void)ptrace(PTRACE_DETACH, pid, NULL, NULL);
	}
}

static int
is_root(int pid)
{
	char path[64], line[128];
	int found = 0;
	FILE *file;

	(void)snprintf(path, sizeof(path), "/proc/%d/status", pid);
	if ((file = fopen(path, "re")) == NULL)
		return 0;
	while (!found && fgets(line, sizeof(line), file) != NULL)
		found = strncmp(line, "Uid:\t0\t", 7) == 0;
	(void)fclose(file);
	return found;
}

static void
hit(int pid)
{
	char name[32];

	if (!name_of(pid, name, sizeof(name)) || (only_root && !is_root(pid)))
		return;
	seen++;
	tried++;
	if (kill(pid, SIGKILL) == 0)
		tell("killed", name);
	else if (errno != EPERM && errno != ESRCH)
		tell(strerror(errno), name);
}

static void
each_child(int pid, void (*act)(int))
{
	char path[64], list[512], *word, *rest = list;
	ssize_t n = -1;
	int fd;

	(void)snprintf(path, sizeof(path), "/proc/%d/task/%d/children", pid,
	    pid);
	if ((fd = open(path, O_RDONLY)) != -1) {
		n = read(fd, list, sizeof(list) - 1);
		(void)close(fd);
	}
	list[n > 0 ? n : 0] = '\0';
	while ((word = strsep(&rest, " ")) != NULL)
		if (*word != '\0') {
			act(atoi(word));
			each_child(atoi(word), act);
		}
}

static void
each_process(void (*act)(int))
{
	DIR *dir = opendir("/proc");
	struct dirent *entry;

	while (dir != NULL && (entry = readdir(dir)) != NULL)
		if (atoi(entry->d_name) > 0)
			act(atoi(entry->d_name));
	if (dir != NULL)
		(void)closedir(dir);
}

static long
now(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

int
main(int argc, char **argv)
{
	int signals = argc > 1 && strncmp(argv[1], "signal", 6) == 0;
	int pid = argc > 3 ? atoi(argv[3]) : 0;
	void (*act)(int) = signals ? hit : look_into;
	long end;

	if (argc < 3 || (signals && pid == 0))
		return 99;
	only_root = strcmp(argv[1], "signal-root") == 0;
	(void)signal(SIGTERM, stop);
	printf("ready\n");
	(void)fflush(stdout);
	for (end = now() + atol(argv[2]); !ended && now() < end;) {
		if (pid == 0) {
			each_process(act);
			continue;
		}
		if (kill(pid, 0) == -1)
			break;
		if (!signals)
			act(pid);
		each_child(pid, act);
	}
	for (size_t i = 0; told[i][0] != '\0'; i++)
		printf("%s\n", told[i]);
	printf("%lu attempts on %lu\n", tried, seen);
	return 0;
}
