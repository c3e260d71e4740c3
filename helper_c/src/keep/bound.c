/*
 * The files of the controllers: bounds, and what was used.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "keep/bound.h"
#include "privsep/sys.h"

#define PERIOD_USEC	100000	/* of cpu, the default of both versions */

/* File names by version. */
static const struct controller {
	const char	*name, *limit[3], *peak[3];
} controllers[NTREES] = {
	[TREE_MEMORY] = { "memory",
	    { NULL, "memory.limit_in_bytes", "memory.max" },
	    { NULL, "memory.max_usage_in_bytes", "memory.peak" } },
	[TREE_PIDS] = { "pids", { NULL, "pids.max", "pids.max" },
	    { NULL, "pids.peak", "pids.peak" } },
	[TREE_CPU] = { "cpu", { NULL, "cpu.cfs_quota_us", "cpu.max" },
	    { NULL, NULL, NULL } },
};

const char *
bound_controller(enum tree tree)
{
	return controllers[tree].name;
}

int
bound_is_here(int dir, enum tree tree)
{
	return dir != -1 &&
	    faccessat(dir, controllers[tree].limit[2], F_OK, 0) == 0;
}

void
bound_hand_on(int dir, enum tree tree)
{
	char text[16];

	/* Where this cannot be, the bound itself fails and says so. */
	(void)snprintf(text, sizeof(text), "+%s", controllers[tree].name);
	(void)sys_write_at(dir, "cgroup.subtree_control", text);
}

static int
files(const struct cgroup *group, enum tree tree)
{
	return group->leaf[group->version[tree] == 2 ? TREE_UNIFIED :
	    tree].dir;
}

int
bound_set(const struct cgroup *group, enum tree tree, unsigned long long limit)
{
	int version = group->version[tree], dir = files(group, tree);
	char text[32];

	if (tree == TREE_CPU)
		limit *= PERIOD_USEC / 100;
	(void)snprintf(text, sizeof(text), "%llu", limit);
	if (sys_write_at(dir, controllers[tree].limit[version], text) == -1)
		return -1;
	if (tree != TREE_MEMORY)
		return 0;
	/* What is swapped out is memory too, where the kernel counts it. */
	return sys_write_at(dir, version == 2 ? "memory.swap.max" :
	    "memory.memsw.limit_in_bytes", version == 2 ? "0" : text) == -1 &&
	    errno != ENOENT ? -1 : 0;
}

/* The number alone in a file, or the one after a word in it; -1: none. */
static long long
read_number(int dir, const char *name, const char *word)
{
	char text[4096], *at = text;
	ssize_t n;
	int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);

	if (fd == -1)
		return -1;
	n = read(fd, text, sizeof(text) - 1);
	(void)close(fd);
	if (n <= 0)
		return -1;
	text[n] = '\0';
	if (word != NULL && (at = strstr(text, word)) == NULL)
		return -1;
	return atoll(at + (word != NULL ? strlen(word) : 0));
}

void
bound_usage(struct run *run)
{
	const struct cgroup *group = &run->cgroup;
	struct usage *usage = &run->usage;
	int unified = group->leaf[TREE_UNIFIED].dir, dir, version;
	long long user;

	/* All that were in it, also those that nobody waited for. */
	if (unified != -1 &&
	    (user = read_number(unified, "cpu.stat", "user_usec ")) != -1) {
		usage->user_usec = user;
		usage->system_usec = read_number(unified, "cpu.stat",
		    "system_usec ");
	}
	if ((version = group->version[TREE_PIDS]) != 0)
		usage->pids_peak = read_number(files(group, TREE_PIDS),
		    controllers[TREE_PIDS].peak[version], NULL);
	if ((version = group->version[TREE_MEMORY]) == 0)
		return;
	dir = files(group, TREE_MEMORY);
	usage->memory_peak = read_number(dir,
	    controllers[TREE_MEMORY].peak[version], NULL);
	usage->oom_kills = read_number(dir, version == 2 ? "memory.events" :
	    "memory.oom_control", "oom_kill ");
}
