/*
 * As a payload: leave the control groups or change them, also as the root of a
 * user namespace with its own mounts of version 1 (E6). Prints what worked.
 *	escape_group TOP MOUNTPOINT
 */
#include <sys/mount.h>
#include <sys/stat.h>

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *const names[] = { "cgroup.procs", "tasks", "release_agent",
	"notify_on_release", "cgroup.subtree_control", "cgroup.kill",
	"memory.limit_in_bytes", "memory.max", "pids.max", "cpu.max",
	"cpu.cfs_quota_us", "devices.allow", "cgroup.freeze" };

static int seen;

static int
visit(const char *path, const struct stat *st, int type, struct FTW *where)
{
	const char *name = path + where->base;
	char below[8192];
	size_t i;
	int fd;

	(void)st;
	if (type == FTW_D) {
		(void)snprintf(below, sizeof(below), "%s/escape", path);
		if (mkdir(below, 0755) == 0)
			printf("made %s\n", below);
		return 0;
	}
	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (strcmp(name, names[i]) != 0)
			continue;
		seen++;
		if ((fd = open(path, O_WRONLY)) == -1)
			continue;
		/* Version 1 judges the write, not the opening. */
		if (write(fd, "0", 1) == 1)
			printf("wrote %s\n", path);
		(void)close(fd);
	}
	return 0;
}

static void
put(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY);

	if (fd != -1) {
		(void)!write(fd, text, strlen(text));
		(void)close(fd);
	}
}

int
main(int argc, char **argv)
{
	static const char *const trees[] = { "memory", "pids", "cpu", "freezer",
	    "devices", "rdma" };
	char map[64];
	size_t i;

	if (argc != 3)
		return 99;
	(void)nftw(argv[1], visit, 16, FTW_PHYS);
	if (seen == 0)
		printf("found nothing to try\n");
	(void)snprintf(map, sizeof(map), "0 %u 1", getuid());
	if (unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWCGROUP) == -1)
		return 0;
	put("/proc/self/setgroups", "deny");
	put("/proc/self/uid_map", map);
	(void)snprintf(map, sizeof(map), "0 %u 1", getgid());
	put("/proc/self/gid_map", map);
	for (i = 0; i < sizeof(trees) / sizeof(trees[0]); i++)
		if (mount("cgroup", argv[2], "cgroup", 0, trees[i]) == 0) {
			(void)nftw(argv[2], visit, 16, FTW_PHYS);
			(void)umount2(argv[2], MNT_DETACH);
		}
	if (mount("cgroup2", argv[2], "cgroup2", 0, NULL) == 0)
		(void)nftw(argv[2], visit, 16, FTW_PHYS);
	return 0;
}
