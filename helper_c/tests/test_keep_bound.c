/*
 * The controllers' files of both versions, on a directory that stands for a
 * group: few machines have both.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <fcntl.h>
#include <unistd.h>

#include <cmocka.h>

#include "keep/bound.h"
#include "privsep/sys.h"

static struct run run;
static int dir;

static void
file(const char *name, const char *text)
{
	int fd = openat(dir, name, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	assert_int_not_equal(fd, -1);
	assert_int_equal(sys_write_all(fd, text, strlen(text)), 0);
	assert_int_equal(close(fd), 0);
}

static void
assert_file(const char *name, const char *text)
{
	char found[64] = "";
	int fd = openat(dir, name, O_RDONLY);

	assert_int_not_equal(fd, -1);
	assert_true(read(fd, found, sizeof(found) - 1) >= 0);
	assert_int_equal(close(fd), 0);
	assert_string_equal(found, text);
}

static int
make_group(void **state)
{
	static char path[] = "/tmp/pilotage-bound-XXXXXX";
	enum tree tree;

	*state = path;
	memcpy(path + sizeof(path) - 7, "XXXXXX", 6);
	memset(&run, 0, sizeof(run));
	run.usage.memory_peak = run.usage.pids_peak = -1;
	if (mkdtemp(path) == NULL || (dir = open(path, O_RDONLY)) == -1)
		return -1;
	for (tree = 0; tree < NTREES; tree++)
		run.cgroup.leaf[tree].dir = -1;
	return 0;
}

static int
remove_group(void **state)
{
	static const char *const names[] = { "memory.max", "memory.swap.max",
	    "memory.peak", "memory.events", "pids.max", "pids.peak", "cpu.max",
	    "cpu.stat", "memory.limit_in_bytes", "memory.memsw.limit_in_bytes",
	    "memory.max_usage_in_bytes", "memory.oom_control",
	    "cpu.cfs_quota_us", "cgroup.subtree_control" };
	size_t i;

	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		(void)unlinkat(dir, names[i], 0);
	(void)close(dir);
	return rmdir(*state);
}

static void
unified(void)
{
	run.cgroup.leaf[TREE_UNIFIED].dir = dir;
	run.cgroup.version[TREE_MEMORY] = run.cgroup.version[TREE_PIDS] =
	    run.cgroup.version[TREE_CPU] = 2;
}

static void
test_version_2_is_there_when_its_files_are(void **state)
{
	(void)state;
	assert_int_equal(bound_is_here(dir, TREE_MEMORY), 0);
	assert_int_equal(bound_is_here(-1, TREE_MEMORY), 0);
	file("memory.max", "max");
	assert_int_equal(bound_is_here(dir, TREE_MEMORY), 1);
	file("cgroup.subtree_control", "");
	bound_hand_on(dir, TREE_PIDS);
	assert_file("cgroup.subtree_control", "+pids");
}

static void
test_bounds_of_version_2(void **state)
{
	(void)state;
	unified();
	assert_int_equal(bound_set(&run.cgroup, TREE_MEMORY, 4096), -1);
	file("memory.max", "");
	assert_int_equal(bound_set(&run.cgroup, TREE_MEMORY, 1ull << 40), 0);
	assert_file("memory.max", "1099511627776");
	file("memory.swap.max", "");
	assert_int_equal(bound_set(&run.cgroup, TREE_MEMORY, 4096), 0);
	assert_file("memory.swap.max", "0");
	file("pids.max", "");
	assert_int_equal(bound_set(&run.cgroup, TREE_PIDS, 77), 0);
	assert_file("pids.max", "77");
	file("cpu.max", "");
	assert_int_equal(bound_set(&run.cgroup, TREE_CPU, 250), 0);
	assert_file("cpu.max", "250000");
}

static void
test_bounds_of_version_1(void **state)
{
	(void)state;
	run.cgroup.leaf[TREE_MEMORY].dir = run.cgroup.leaf[TREE_CPU].dir = dir;
	run.cgroup.version[TREE_MEMORY] = run.cgroup.version[TREE_CPU] = 1;
	file("memory.limit_in_bytes", "");
	file("memory.memsw.limit_in_bytes", "");
	assert_int_equal(bound_set(&run.cgroup, TREE_MEMORY, 8192), 0);
	assert_file("memory.limit_in_bytes", "8192");
	assert_file("memory.memsw.limit_in_bytes", "8192");
	file("cpu.cfs_quota_us", "");
	assert_int_equal(bound_set(&run.cgroup, TREE_CPU, 50), 0);
	assert_file("cpu.cfs_quota_us", "50000");
}

static void
test_usage_of_version_2(void **state)
{
	(void)state;
	unified();
	file("cpu.stat", "usage_usec 30\nuser_usec 20\nsystem_usec 10\n");
	file("memory.peak", "123456\n");
	file("memory.events", "low 0\nhigh 0\nmax 4\noom 1\noom_kill 2\n"
	    "oom_group_kill 0\n");
	file("pids.peak", "9\n");
	bound_usage(&run);
	assert_int_equal(run.usage.user_usec, 20);
	assert_int_equal(run.usage.system_usec, 10);
	assert_int_equal(run.usage.memory_peak, 123456);
	assert_int_equal(run.usage.oom_kills, 2);
	assert_int_equal(run.usage.pids_peak, 9);
}

static void
test_what_no_group_counts_stays_as_it_was(void **state)
{
	(void)state;
	run.usage.user_usec = 5;
	bound_usage(&run);
	unified();
	bound_usage(&run);
	assert_int_equal(run.usage.user_usec, 5);
	assert_int_equal(run.usage.memory_peak, -1);
	assert_int_equal(run.usage.pids_peak, -1);
	assert_true(run.usage.oom_kills <= 0);
	file("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\n"
	    "oom_kill 3\n");
	file("memory.max_usage_in_bytes", "1048576\n");
	run.cgroup.leaf[TREE_MEMORY].dir = dir;
	run.cgroup.version[TREE_MEMORY] = 1;
	bound_usage(&run);
	assert_int_equal(run.usage.oom_kills, 3);
	assert_int_equal(run.usage.memory_peak, 1048576);
}

int
main(void)
{
#define TEST(f)	cmocka_unit_test_setup_teardown(f, make_group, remove_group)
	const struct CMUnitTest tests[] = {
		TEST(test_version_2_is_there_when_its_files_are),
		TEST(test_bounds_of_version_2),
		TEST(test_bounds_of_version_1),
		TEST(test_usage_of_version_2),
		TEST(test_what_no_group_counts_stays_as_it_was),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
