/*
 * The payload's own control groups.
 *
 * They lie below the groups that the caller is in, so that a batch system goes
 * on counting and limiting the payload with its pilot. The one of version 2
 * tracks and kills, for which it needs no controller. Bounds are set where the
 * controllers are: in the same group, or in the trees of version 1.
 */
#include <sys/stat.h>
#include <sys/vfs.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/text.h"
#include "keep/aide.h"
#include "keep/bound.h"
#include "keep/cgroup.h"
#include "privsep/sys.h"

#define PREFIX		"pilotage-"
#define KILL_USEC	5000000
/*
 * The kernel tells of a change of cgroup.events at most every 10 ms, and of the
 * first process it has just told; so the file is read again. Most of what dies
 * is our child, and ends the wait at once.
 */
#define LOOK_USEC	1000
#define OPEN_DIRECTORY	(O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)

/* Is the word in a list with commas? */
static int
has_word(const char *list, const char *word)
{
	size_t len = strlen(word);

	for (; list != NULL; list = strchr(list, ',')) {
		list += *list == ',';
		if (strncmp(list, word, len) == 0 &&
		    strchr(",\n", list[len]) != NULL)
			return 1;
	}
	return 0;
}

/* Where the kernel says the trees are, each file read once for all of them. */
static struct {
	char	*root, *point;	/* the group that is mounted, and where */
	char	*own;		/* the group that we were started in */
} places[NTREES];

/* A line of mountinfo; names with a blank are escaped there, we want none. */
static void
take_mount(const char *line, enum tree tree)
{
	const char *type = strstr(line, tree == TREE_UNIFIED ?
	    " - cgroup2 " : " - cgroup ");

	if (places[tree].point == NULL && type != NULL &&
	    (tree == TREE_UNIFIED ||
	    has_word(strrchr(type, ' ') + 1, bound_controller(tree))) &&
	    (sscanf(line, "%*u %*u %*u:%*u %ms %ms", &places[tree].root,
	    &places[tree].point) != 2 ||
	    strchr(places[tree].point, '\\') != NULL))
		places[tree].point = NULL;
}

/* A line of /proc/self/cgroup; "/.." is outside the cgroup namespace. */
static void
take_own(const char *line, enum tree tree)
{
	const char *names = strchr(line, ':'), *path;
	char list[256];

	if (places[tree].own != NULL || names == NULL ||
	    (path = strchr(++names, ':')) == NULL ||
	    path - names >= (ptrdiff_t)sizeof(list))
		return;
	(void)snprintf(list, sizeof(list), "%.*s\n", (int)(path - names),
	    names);
	if ((tree == TREE_UNIFIED ? strncmp(line, "0::", 3) == 0 :
	    has_word(list, bound_controller(tree))) &&
	    strstr(path, "/..") == NULL)
		places[tree].own = strndup(path + 1, strcspn(path + 1, "\n"));
}

static void
read_lines(const char *file, void (*take)(const char *, enum tree))
{
	FILE *lines = fopen(file, "re");
	char *line = NULL;
	enum tree tree;
	size_t room = 0;

	if (lines == NULL)
		return;
	while (getline(&line, &room, lines) != -1)
		for (tree = 0; tree < NTREES && strlen(line) < PATH_MAX; tree++)
			take(line, tree);
	free(line);
	(void)fclose(lines);
}

static int
open_group(enum tree tree, const char *path)
{
	int fd = open(path, OPEN_DIRECTORY);
	struct statfs fs;

	if (fd == -1)
		return -1;
	if (fstatfs(fd, &fs) == 0 && fs.f_type == (tree == TREE_UNIFIED ?
	    CGROUP2_SUPER_MAGIC : CGROUP_SUPER_MAGIC))
		return fd;
	(void)close(fd);
	errno = ENOENT;
	return -1;
}

/* The group that we were started in, from where the tree is mounted; or NULL. */
static const char *
own_group(enum tree tree)
{
	const char *root = places[tree].root, *below = places[tree].own;
	size_t len;

	if (places[tree].point == NULL || below == NULL)
		return NULL;
	if ((len = strlen(root)) > 1) {
		if (strncmp(below, root, len) != 0 ||
		    (below[len] != '/' && below[len] != '\0'))
			return NULL;
		below += len;
	}
	return below;
}

/* The path, as it is mounted here, of the group that ours shall lie in. */
static int
parent_path(const struct run *run, enum tree tree, char *path, size_t size)
{
	const char *point = places[tree].point;
	const char *below = run->config.cgroup_parent != NULL ?
	    run->config.cgroup_parent : own_group(tree);

	if (point == NULL || below == NULL)
		return -1;
	return snprintf(path, size, "%s%s", point,
	    strcmp(below, "/") != 0 ? below : "") < (int)size ? 0 : -1;
}

static int
make_leaf(struct run *run, enum tree tree, char *detail)
{
	struct leaf *leaf = &run->cgroup.leaf[tree];
	char path[PATH_MAX], name[sizeof(PREFIX) + PIL_RUN_ID_SIZE];

	if (parent_path(run, tree, path, sizeof(path)) == -1) {
		pil_detail(detail, "no control groups %s here",
		    tree == TREE_UNIFIED ? "of version 2" :
		    bound_controller(tree));
		return -1;
	}
	(void)snprintf(name, sizeof(name), PREFIX "%s", run->id);
	if (snprintf(leaf->path, sizeof(leaf->path), "%s/%s", path, name) >=
	    (int)sizeof(leaf->path) ||
	    (leaf->parent = open_group(tree, path)) == -1 ||
	    mkdirat(leaf->parent, name, 0755) == -1 ||
	    (leaf->dir = openat(leaf->parent, name, OPEN_DIRECTORY)) == -1 ||
	    (tree == TREE_UNIFIED &&
	    faccessat(leaf->dir, "cgroup.kill", F_OK, 0) == -1)) {
		pil_detail(detail, "%s: %s", leaf->path, strerror(errno));
		return -1;
	}
	return 0;
}

static int
remove_leaf(struct leaf *leaf)
{
	const char *name = strrchr(leaf->path, '/');
	int failed = 0;

	/* A group that is not empty stays, and the log says so. */
	if (leaf->parent != -1 && name != NULL)
		failed = unlinkat(leaf->parent, name + 1, AT_REMOVEDIR) == -1 &&
		    errno != ENOENT;
	if (leaf->dir != -1)
		(void)close(leaf->dir);
	if (leaf->parent != -1)
		(void)close(leaf->parent);
	leaf->parent = leaf->dir = -1;
	leaf->path[0] = '\0';
	return failed;
}

/*
 * Bounds in the group of version 2 where its parent hands the controller on,
 * else in version 1. Memory and processes are also counted without a bound.
 */
static int
bind_tree(struct run *run, enum tree tree, char *detail)
{
	struct cgroup *group = &run->cgroup;
	unsigned long long limit = run->bounds[tree];
	int unified = group->leaf[TREE_UNIFIED].dir;

	if (tree == TREE_CPU && limit == 0)
		return 0;
	if (bound_is_here(unified, tree))
		group->version[tree] = 2;
	else if (make_leaf(run, tree, detail) == 0)
		group->version[tree] = 1;
	else {
		(void)remove_leaf(&group->leaf[tree]);
		return limit == 0 ? 0 : -1;
	}
	if (limit == 0 || bound_set(group, tree, limit) == 0)
		return 0;
	pil_detail(detail, "%s bound of %llu: %s", bound_controller(tree),
	    limit, strerror(errno));
	return -1;
}

void
cgroup_look(void)
{
	read_lines("/proc/self/mountinfo", take_mount);
	read_lines("/proc/self/cgroup", take_own);
}

int
cgroup_make(struct run *run, char *detail)
{
	struct leaf *unified = &run->cgroup.leaf[TREE_UNIFIED];
	enum tree tree;

	if (run->config.cgroup != CGROUP_OFF &&
	    make_leaf(run, TREE_UNIFIED, detail) == -1) {
		(void)remove_leaf(unified);
		if (run->config.cgroup == CGROUP_REQUIRED)
			return -1;
	}
	/* A group that the site set apart for us: its controllers are ours. */
	if (unified->dir != -1 && run->config.cgroup_parent != NULL)
		for (tree = TREE_MEMORY; tree < NTREES; tree++)
			bound_hand_on(unified->parent, tree);
	for (tree = TREE_MEMORY; tree < NTREES; tree++)
		if ((run->config.cgroup != CGROUP_OFF ||
		    run->bounds[tree] != 0) &&
		    bind_tree(run, tree, detail) == -1)
			return -1;
	return 0;
}

int
cgroup_place(const struct cgroup *group, pid_t pid)
{
	int dir = group->leaf[TREE_UNIFIED].dir;
	char number[16];

	if (dir == -1)
		return 0;
	(void)snprintf(number, sizeof(number), "%d", pid);
	return sys_write_at(dir, "cgroup.procs", number);
}

/*
 * By its one thread and by itself: to move a process, or another's thread, the
 * kernel halts every fork of the machine for a grace period of RCU, which is
 * 10 ms and more; since Linux 5.5 not so for one's own thread.
 */
int
cgroup_enter(const struct cgroup *group)
{
	size_t tree;

	for (tree = TREE_MEMORY; tree < NTREES; tree++)
		if (group->leaf[tree].dir != -1 &&
		    sys_write_at(group->leaf[tree].dir, "tasks", "0") == -1)
			return -1;
	return 0;
}

int
cgroup_open(struct cgroup *group, enum tree tree, const char *path)
{
	struct leaf *leaf = &group->leaf[tree];
	const char *name = path != NULL ? strrchr(path, '/') : NULL;
	char parent[PATH_MAX];

	leaf->parent = leaf->dir = -1;
	if (name == NULL || strncmp(name + 1, PREFIX, strlen(PREFIX)) != 0)
		return -1;
	(void)snprintf(leaf->path, sizeof(leaf->path), "%s", path);
	(void)snprintf(parent, sizeof(parent), "%.*s", (int)(name - path),
	    path);
	if ((leaf->parent = open_group(tree, parent)) == -1)
		return -1;
	leaf->dir = openat(leaf->parent, name + 1, OPEN_DIRECTORY);
	return leaf->dir == -1 ? -1 : 0;
}

int
cgroup_kill(const struct cgroup *group)
{
	long long deadline = sys_now_usec() + KILL_USEC;
	int dir = group->leaf[TREE_UNIFIED].dir, fd, left = -1;
	char text[256];
	ssize_t n;

	if (dir == -1)
		return 0;
	if (sys_write_at(dir, "cgroup.kill", "1") == -1)
		return -1;
	fd = openat(dir, "cgroup.events", O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd == -1)
		return -1;
	while (left == -1 && sys_now_usec() < deadline) {
		if ((n = pread(fd, text, sizeof(text) - 1, 0)) <= 0)
			break;
		text[n] = '\0';
		if (strstr(text, "populated 0") != NULL)
			left = 0;
		else
			aide_pause(LOOK_USEC);
	}
	(void)close(fd);
	return left;
}

int
cgroup_remove(struct cgroup *group)
{
	size_t tree;
	int failed = 0;

	for (tree = 0; tree < NTREES; tree++)
		failed |= remove_leaf(&group->leaf[tree]);
	return failed ? -1 : 0;
}

int
cgroup_top(const char **below)
{
	*below = own_group(TREE_UNIFIED);
	return *below == NULL ? -1 : open_group(TREE_UNIFIED,
	    places[TREE_UNIFIED].point);
}

int
cgroup_unified(const struct run *run)
{
	return run->cgroup.leaf[TREE_UNIFIED].dir;
}

const char *
cgroup_tracking(const struct run *run)
{
	return cgroup_unified(run) != -1 ? "cgroup2" : "group";
}
