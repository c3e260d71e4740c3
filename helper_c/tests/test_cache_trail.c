/*
 * The trail of a verification: what is the same when it is walked again, what
 * is not, and what no trail is made of. The machine's clock is set here.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include <openssl/crypto.h>

#include "cache/trail.h"

static char root[PATH_MAX];
static long ahead;	/* milliseconds */

/* Files that were made just now are old by a clock that goes before. */
int
clock_gettime(clockid_t clock, struct timespec *out)
{
	int result = (int)syscall(SYS_clock_gettime, clock, out);

	if (clock == CLOCK_REALTIME) {
		out->tv_sec += ahead / 1000;
		out->tv_nsec += ahead % 1000 * 1000000;
		if (out->tv_nsec >= 1000000000) {
			out->tv_sec++;
			out->tv_nsec -= 1000000000;
		}
	}
	return result;
}

static const char *
below(const char *name)
{
	static char paths[4][PATH_MAX + 256];
	static unsigned next;
	char *path = paths[next++ % 4];

	(void)snprintf(path, sizeof(paths[0]), "%s/%s", root, name);
	return path;
}

static void
put(const char *name, const char *text)
{
	FILE *f = fopen(below(name), "w");

	assert_non_null(f);
	assert_true(fputs(text, f) >= 0);
	assert_int_equal(fclose(f), 0);
}

/* These files look older than they are: wait for the next tick instead. */
static void
next_tick(void)
{
	const struct timespec pause = { .tv_nsec = 1000 * 1000 };
	struct stat before, now;
	FILE *f = tmpfile();

	assert_non_null(f);
	assert_int_equal(fstat(fileno(f), &before), 0);
	do {
		(void)nanosleep(&pause, NULL);
		assert_int_equal(fchmod(fileno(f), 0600), 0);
		assert_int_equal(fstat(fileno(f), &now), 0);
	} while (memcmp(&before.st_ctim, &now.st_ctim, sizeof(now.st_ctim)) ==
	    0);
	assert_int_equal(fclose(f), 0);
}

static void
change(const char *command)
{
	char line[PATH_MAX + 512];

	next_tick();
	(void)snprintf(line, sizeof(line), "cd '%s' && %s", root, command);
	/* A fixed text of this file. NOLINTNEXTLINE(cert-env33-c) */
	assert_int_equal(system(line), 0);
}

static int
set_up(void **state)
{
	(void)state;
	(void)snprintf(root, sizeof(root), "/tmp/pilotage-trail-XXXXXX");
	assert_non_null(mkdtemp(root));
	assert_int_equal(mkdir(below("ca"), 0755), 0);
	assert_int_equal(mkdir(below("voms"), 0755), 0);
	assert_int_equal(mkdir(below("voms/vo"), 0755), 0);
	put("ca/a.0", "authority");
	put("ca/a.r0", "list");
	put("voms/vo/host.lsc", "names");
	ahead = 5000;
	return 0;
}

static int
tear_down(void **state)
{
	(void)state;
	change("chmod -R u+rwx . && rm -rf ca voms away other");
	return rmdir(root);
}

static void
read_one(const struct pil_dirs *dirs, int dir, const char *name, int flags)
{
	unsigned char *text = NULL;
	size_t len;

	if (pil_read_file(dirs, dir, name, flags, 4096, &text, &len) == 1)
		OPENSSL_free(text);
}

/* What a verification of a chain with attributes does with files. */
static void
look(struct pil_trail *t, const char *voms)
{
	struct pil_verify_options opt = { .ca_dir = below("ca"),
	    .voms_dir = voms };
	struct pil_dirs dirs;
	int vo;

	pil_trail_begin(t);
	assert_int_equal(pil_open_dirs(&opt, 0, &t->watch, &dirs), PIL_OK);
	read_one(&dirs, dirs.ca, "a.0", 0);
	read_one(&dirs, dirs.ca, "a.1", 0);
	read_one(&dirs, dirs.ca, "a.r0", 0);
	read_one(&dirs, dirs.ca, "a.r1", 0);
	read_one(&dirs, dirs.ca, "a.r0", 0);
	read_one(&dirs, dirs.ca, "a.r1", 0);
	/* As for a file whose link must not lead nowhere. */
	read_one(&dirs, dirs.ca, "a.rules", 0);
	read_one(&dirs, dirs.ca, "a.rules", O_NOFOLLOW);
	if (dirs.voms != -1) {
		vo = pil_open_dir(&dirs, dirs.voms, "vo", O_NOFOLLOW);
		assert_int_not_equal(vo, -1);
		read_one(&dirs, vo, "host.lsc", O_NOFOLLOW);
		(void)close(vo);
		assert_int_equal(pil_open_dir(&dirs, dirs.voms, "none",
		    O_NOFOLLOW), -1);
		assert_int_equal(errno, ENOENT);
	}
	pil_close_dirs(&dirs);
}

static int
descriptors(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int n = 0;

	assert_non_null(dir);
	while (readdir(dir) != NULL)
		n++;
	(void)closedir(dir);
	return n;
}

static void
test_what_did_not_change_is_the_same(void **state)
{
	struct pil_trail t;
	int i, before = descriptors();

	(void)state;
	look(&t, below("voms"));
	/* Two directories, one of a VO and one that is none; seven names. */
	assert_int_equal(t.count, 11);
	for (i = 0; i < 3; i++)
		assert_true(pil_trail_same(&t));
	put("ca/b.0", "another authority");
	change("touch ca/unrelated voms/vo/unrelated && cat ca/* >/dev/null");
	assert_true(pil_trail_same(&t));
	assert_true(pil_trail_size(&t) > 11 * sizeof(struct pil_step));
	pil_trail_end(&t);
	assert_int_equal(descriptors(), before);
}

static void
test_any_change_is_seen(void **state)
{
	static const char *const changes[] = {
		"touch ca/a.0",
		"chmod 600 ca/a.r0",
		"chmod 600 ca/a.r0 && chmod 644 ca/a.r0",
		"printf LIST >ca/a.r0",
		"rm ca/a.r0",
		"rm ca/a.r0 && printf list >ca/a.r0",
		"cp -p ca/a.r0 new && mv new ca/a.r0",
		"mv ca/a.0 other && ln -s ../other ca/a.0 && cp other o && mv o other",
		"rm ca/a.0 && ln -s nowhere ca/a.0",
		"rm ca/a.0 && mkdir ca/a.0",
		"rm ca/a.0 && mkfifo ca/a.0",
		"touch ca/a.1",
		"mkdir ca/a.1",
		"ln -s a.0 ca/a.1",
		"ln -s nowhere ca/a.1 && ln -s /dev/null ca/a.r1",
		"printf list >ca/a.r1",
		"printf rule >ca/a.rules",
		"ln -s nowhere ca/a.rules",
		"mv ca away",
		"mv ca away && mkdir ca",
		"mv ca away && cp -a away ca",
		"mv ca away && touch ca",
		"chmod 700 ca",
		"mv voms away",
		"mv voms away && cp -a away voms",
		"mkdir voms/none",
		"ln -s vo voms/none",
		"mv voms/vo away && ln -s ../away voms/vo",
		"mv voms/vo away && cp -a away voms/vo",
		"mv voms/vo/host.lsc other && ln -s ../../other voms/vo/host.lsc",
		"rm voms/vo/host.lsc",
	};
	struct pil_trail t;
	size_t i;

	for (i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
		int before = descriptors();

		look(&t, below("voms"));
		assert_true(pil_trail_same(&t));
		change(changes[i]);
		if (pil_trail_same(&t))
			fail_msg("not seen: %s", changes[i]);
		assert_false(pil_trail_same(&t));
		pil_trail_end(&t);
		assert_int_equal(descriptors(), before);
		(void)tear_down(state);
		(void)set_up(state);
	}
}

static void
test_links_to_the_same_files_are_the_same_ones(void **state)
{
	struct pil_trail t;

	(void)state;
	look(&t, below("voms"));
	change("mv ca away && ln -s away ca");
	assert_true(pil_trail_same(&t));
	/* The link leads elsewhere from here on. */
	change("cp -a away other && ln -sfn other ca");
	assert_false(pil_trail_same(&t));
	change("ln -sfn away ca");
	assert_true(pil_trail_same(&t));
	pil_trail_end(&t);
}

static void
test_a_voms_directory_that_is_missing_may_come(void **state)
{
	struct pil_trail t;

	(void)state;
	look(&t, below("away"));
	assert_true(pil_trail_same(&t));
	change("mkdir away");
	assert_false(pil_trail_same(&t));
	pil_trail_end(&t);
}

static void
test_a_file_that_changed_just_now_makes_a_trail_useless(void **state)
{
	static const long too_late[] = { 0, 1900, 5000 };
	struct pil_trail t;
	size_t i;

	(void)state;
	for (i = 0; i < 3; i++) {
		ahead = too_late[i];
		put("ca/a.r0", "list");
		look(&t, NULL);
		assert_int_equal(pil_trail_same(&t), ahead == 5000);
		pil_trail_end(&t);
	}
	/* And one from the future. */
	ahead = -3600 * 1000L;
	look(&t, NULL);
	assert_false(pil_trail_same(&t));
	pil_trail_end(&t);
}

static void
test_a_clock_that_was_set_makes_a_trail_useless(void **state)
{
	static const struct {
		long	 to;
		int	 same;
	} cases[] = {
		{ 5000, 1 }, { 5200, 1 }, { 4800, 1 }, { 4300, 0 },
		{ 5700, 0 }, { 0, 0 }, { 3600 * 1000L, 0 }, { 5000, 1 },
	};
	struct pil_trail t;
	size_t i;

	(void)state;
	look(&t, below("voms"));
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		ahead = cases[i].to;
		assert_int_equal(pil_trail_same(&t), cases[i].same);
	}
	pil_trail_end(&t);
}

static void
test_a_file_that_changes_while_it_is_read_is_seen(void **state)
{
	struct pil_verify_options opt = { .ca_dir = below("ca") };
	struct pil_dirs dirs;
	struct pil_trail t;
	int again;

	(void)state;
	for (again = 0; again < 2; again++) {
		pil_trail_begin(&t);
		assert_int_equal(pil_open_dirs(&opt, 0, &t.watch, &dirs),
		    PIL_OK);
		read_one(&dirs, dirs.ca, "a.r0", 0);
		next_tick();
		put("ca/a.r0", "LIST");
		if (again)
			read_one(&dirs, dirs.ca, "a.r0", 0);
		pil_close_dirs(&dirs);
		assert_int_equal(t.useless, again);
		assert_false(pil_trail_same(&t));
		pil_trail_end(&t);
	}
}

static void
test_other_file_systems_and_errors_make_a_trail_useless(void **state)
{
	struct pil_verify_options opt = { .ca_dir = "/proc/self" };
	struct pil_dirs dirs;
	struct pil_trail t;

	(void)state;
	pil_trail_begin(&t);
	assert_int_equal(pil_open_dirs(&opt, 0, &t.watch, &dirs), PIL_OK);
	pil_close_dirs(&dirs);
	assert_false(pil_trail_same(&t));
	pil_trail_end(&t);

	opt.ca_dir = below("ca");
	pil_trail_begin(&t);
	assert_int_equal(pil_open_dirs(&opt, 0, &t.watch, &dirs), PIL_OK);
	assert_true(pil_trail_same(&t));
	read_one(&dirs, dirs.ca, "a.0/b", 0);
	assert_false(pil_trail_same(&t));
	pil_close_dirs(&dirs);
	pil_trail_end(&t);

	/* A directory that nobody has said to be open. */
	pil_trail_begin(&t);
	assert_int_equal(pil_open_dirs(&opt, 0, NULL, &dirs), PIL_OK);
	dirs.watch = &t.watch;
	read_one(&dirs, dirs.ca, "a.0", 0);
	assert_false(pil_trail_same(&t));
	pil_close_dirs(&dirs);
	pil_trail_end(&t);
}

static void
test_a_trail_has_an_end(void **state)
{
	struct pil_verify_options opt = { .ca_dir = below("ca") };
	struct pil_dirs dirs;
	struct pil_trail t;
	char name[32];
	int i, before = descriptors();

	(void)state;
	pil_trail_begin(&t);
	assert_int_equal(pil_open_dirs(&opt, 0, &t.watch, &dirs), PIL_OK);
	for (i = 0; i < 1100; i++) {
		(void)snprintf(name, sizeof(name), "%d", i);
		read_one(&dirs, dirs.ca, name, 0);
		if (i == 1000)
			assert_true(pil_trail_same(&t));
	}
	assert_true(t.count <= 1024);
	assert_false(pil_trail_same(&t));
	pil_close_dirs(&dirs);
	pil_trail_end(&t);

	pil_trail_begin(&t);
	for (i = 0; i < 20; i++) {
		assert_int_equal(pil_open_dirs(&opt, 0, &t.watch, &dirs),
		    PIL_OK);
		pil_close_dirs(&dirs);
		assert_int_equal(pil_trail_same(&t), i < 16);
	}
	pil_trail_end(&t);
	assert_int_equal(descriptors(), before);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
		TEST(test_what_did_not_change_is_the_same),
		TEST(test_any_change_is_seen),
		TEST(test_links_to_the_same_files_are_the_same_ones),
		TEST(test_a_voms_directory_that_is_missing_may_come),
		TEST(test_a_file_that_changed_just_now_makes_a_trail_useless),
		TEST(test_a_clock_that_was_set_makes_a_trail_useless),
		TEST(test_a_file_that_changes_while_it_is_read_is_seen),
		TEST(test_other_file_systems_and_errors_make_a_trail_useless),
		TEST(test_a_trail_has_an_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
