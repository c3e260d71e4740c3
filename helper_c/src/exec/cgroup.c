/*
 * The payload's own control group.
 *
 * It lies below the group that the caller is in, so that a batch system goes
 * on counting and limiting the payload with its pilot. No controller is needed:
 * on machines where all of them are bound to version 1 the bare tree of version
 * 2 still tracks and kills.
 */
#include <sys/stat.h>
#include <sys/vfs.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/text.h"
#include "exec/cgroup.h"
#include "exec/sys.h"

#define PREFIX		"pilotage-"
#define KILL_USEC	5000000
#define OPEN_DIRECTORY	(O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)

/*
 * Find where version 2 is mounted: the mount point and which group of the
 * tree is its root. Names with a blank are escaped there; we want none.
 */
static int
find_mount(char *root, char *point, size_t size)
{
	char *line = NULL, *type;
	size_t room = 0;
	int found = 0;
	FILE *mounts = fopen("/proc/self/mountinfo", "re");

	if (mounts == NULL)
		return -1;
	while (!found && getline(&line, &room, mounts) != -1) {
		if ((type = strstr(line, " - cgroup2 ")) == NULL)
			continue;
		*type = '\0';
		if (strlen(line) < size && sscanf(line,
		    "%*u %*u %*u:%*u %4095s %4095s", root, point) == 2)
			found = strchr(point, '\\') == NULL;
	}
	free(line);
	(void)fclose(mounts);
	return found ? 0 : -1;
}

/* The group that we were started in, as version 2 names it. */
static int
find_own(char *own, size_t size)
{
	char *line = NULL;
	size_t room = 0, len;
	int found = 0;
	FILE *groups = fopen("/proc/self/cgroup", "re");

	if (groups == NULL)
		return -1;
	while (!found && getline(&line, &room, groups) != -1) {
		len = strlen(line);
		if (strncmp(line, "0::/", 4) != 0 || len - 3 > size)
			continue;
		line[len - 1] = '\0';
		memcpy(own, line + 3, len - 3);
		/* "/.." is a group outside the cgroup namespace. */
		found = strstr(own, "/..") == NULL;
	}
	free(line);
	(void)fclose(groups);
	return found ? 0 : -1;
}

static int
open_group(const char *path)
{
	int fd = open(path, OPEN_DIRECTORY);
	struct statfs fs;

	if (fd == -1)
		return -1;
	if (fstatfs(fd, &fs) == 0 && fs.f_type == CGROUP2_SUPER_MAGIC)
		return fd;
	(void)close(fd);
	errno = ENOENT;
	return -1;
}

/* The path of our own group as it is mounted here. */
static int
own_path(char *path, size_t size)
{
	char root[PATH_MAX], point[PATH_MAX], own[PATH_MAX];
	const char *below = own;
	size_t len;

	if (find_mount(root, point, sizeof(point)) == -1 ||
	    find_own(own, sizeof(own)) == -1)
		return -1;
	if (strcmp(root, "/") != 0) {
		len = strlen(root);
		if (strncmp(own, root, len) != 0 ||
		    (own[len] != '/' && own[len] != '\0'))
			return -1;
		below = own + len;
	}
	if (strcmp(below, "/") == 0)
		below = "";
	return snprintf(path, size, "%s%s", point, below) < (int)size ? 0 : -1;
}

int
cgroup_make(struct cgroup *group, const char *run_id, char *detail)
{
	char path[PATH_MAX];

	if (own_path(path, sizeof(path)) == -1) {
		pil_detail(detail, "no control groups of version 2 here");
		return -1;
	}
	(void)snprintf(group->name, sizeof(group->name), PREFIX "%s", run_id);
	if (snprintf(group->path, sizeof(group->path), "%s/%s", path,
	    group->name) >= (int)sizeof(group->path) ||
	    (group->parent = open_group(path)) == -1) {
		pil_detail(detail, "%s: %s", path, strerror(errno));
		return -1;
	}
	if (mkdirat(group->parent, group->name, 0755) == -1 ||
	    (group->dir = openat(group->parent, group->name,
	    OPEN_DIRECTORY)) == -1 ||
	    faccessat(group->dir, "cgroup.kill", F_OK, 0) == -1) {
		pil_detail(detail, "%s: %s", group->path, strerror(errno));
		cgroup_remove(group);
		return -1;
	}
	return 0;
}

int
cgroup_open(struct cgroup *group, const char *path)
{
	const char *name = strrchr(path, '/');
	char parent[PATH_MAX];

	group->parent = group->dir = -1;
	if (name == NULL || strncmp(name + 1, PREFIX, strlen(PREFIX)) != 0 ||
	    strlen(name + 1) >= sizeof(group->name))
		return -1;
	(void)snprintf(group->name, sizeof(group->name), "%s", name + 1);
	(void)snprintf(group->path, sizeof(group->path), "%s", path);
	(void)snprintf(parent, sizeof(parent), "%.*s", (int)(name - path),
	    path);
	if ((group->parent = open_group(parent)) == -1)
		return -1;
	group->dir = openat(group->parent, group->name, OPEN_DIRECTORY);
	if (group->dir != -1)
		return 0;
	cgroup_remove(group);
	return -1;
}

static int
write_file(int dir, const char *name, const char *text)
{
	int fd = openat(dir, name, O_WRONLY | O_NOFOLLOW | O_CLOEXEC), failed;

	if (fd == -1)
		return -1;
	failed = sys_write_all(fd, text, strlen(text));
	(void)close(fd);
	return failed;
}

int
cgroup_kill(const struct cgroup *group)
{
	long long deadline = sys_now_usec() + KILL_USEC;
	char text[256];
	ssize_t n;
	int fd, left = -1;

	if (write_file(group->dir, "cgroup.kill", "1") == -1)
		return -1;
	fd = openat(group->dir, "cgroup.events",
	    O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd == -1)
		return -1;
	while (left == -1 && sys_now_usec() < deadline) {
		if ((n = pread(fd, text, sizeof(text) - 1, 0)) <= 0)
			break;
		text[n] = '\0';
		if (strstr(text, "populated 0") != NULL)
			left = 0;
		else
			(void)sys_wait(fd, POLLPRI, deadline);
	}
	(void)close(fd);
	return left;
}

void
cgroup_remove(struct cgroup *group)
{
	if (group->parent == -1)
		return;
	/* A group that is not empty stays, and the log says so. */
	(void)unlinkat(group->parent, group->name, AT_REMOVEDIR);
	if (group->dir != -1)
		(void)close(group->dir);
	(void)close(group->parent);
	group->parent = group->dir = -1;
}

const char *
cgroup_tracking(const struct run *run)
{
	return run->cgroup.path[0] != '\0' ? "cgroup2" : "group";
}
