/*
 * The way of a call from the setuid program to pilotage-keep: it arrives as it
 * was made, and nothing else is taken.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sys/mman.h>
#include <sys/stat.h>

#include <fcntl.h>
#include <unistd.h>

#include <cmocka.h>

#include "exec/options.h"
#include "privsep/handover.h"
#include "privsep/order.h"

#define WORDS(...) ((char *[]){ __VA_ARGS__, NULL })

static char *variables[] = { "GLEXEC_ID=7", "EMPTY=", "no sign", NULL };

static struct call
made(char **argv, char **environment)
{
	struct call call = { .pilot = { 1000, 1001 }, .pid = 42, .parent = 7,
	    .mask = 027, .environment = environment };
	int argc = 0;

	while (argv[argc] != NULL)
		argc++;
	assert_null(options_parse(&call.options, argc, argv, 0));
	call.limits[RLIMIT_NOFILE] = (struct rlimit){ 17, RLIM_INFINITY };
	return call;
}

static int
given(const struct call *call)
{
	int fd = handover_make(call);

	assert_int_not_equal(fd, -1);
	return fd;
}

static void
forget(struct call *call)
{
	free(call->options.command);
	free(call->environment);
}

static void
is_list(char **got, char **want)
{
	for (; *want != NULL; want++, got++)
		assert_string_equal(*got, *want);
	assert_null(*got);
}

static void
a_call_arrives_as_it_was_made(void **state)
{
	char **argv = WORDS("pilotage-exec", "glexec", "--proxy", "/p",
	    "--source-proxy", "relative", "--target-proxy", "/t", "--job-id",
	    "a b", "--memory-bytes", "999999999999999999", "--pids", "3",
	    "--status-fd", "9", "--", "/bin/echo", "", "a\nb");
	struct call call = made(argv, variables), got;

	(void)state;
	assert_null(handover_take(given(&call), &got));
	assert_int_equal(got.options.verb, VERB_RUN);
	assert_true(got.options.glexec);
	assert_string_equal(got.options.proxy, "/p");
	assert_string_equal(got.options.source, "relative");
	assert_string_equal(got.options.target, "/t");
	assert_string_equal(got.options.job_id, "a b");
	assert_null(got.options.account);
	assert_null(got.options.run_id);
	assert_int_equal(got.options.status_fd, -1);
	assert_int_equal(got.options.bounds[TREE_MEMORY], 999999999999999999);
	assert_int_equal(got.options.bounds[TREE_PIDS], 3);
	is_list(got.options.command, call.options.command);
	is_list(got.environment, variables);
	assert_int_equal(got.pilot.uid, 1000);
	assert_int_equal(got.pilot.gid, 1001);
	assert_int_equal(got.pid, 42);
	assert_int_equal(got.parent, 7);
	assert_int_equal(got.mask, 027);
	assert_memory_equal(got.limits, call.limits, sizeof(call.limits));
	forget(&got);
}

static void
every_verb_that_is_kept_arrives(void **state)
{
	char **argvs[] = {
		WORDS("x", "run", "--proxy", "/p", "--", "/bin/true"),
		WORDS("x", "run", "--proxy", "/p", "--target-proxy", "none",
		    "--", "/bin/true"),
		WORDS("x", "glexec", "--proxy", "/p"),
		WORDS("x", "map", "--proxy", "", "--account", "pool01"),
		WORDS("x", "cleanup"),
		WORDS("x", "cleanup", "0123"),
	};
	struct call call, got;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(argvs) / sizeof(argvs[0]); i++) {
		call = made(argvs[i], NULL);
		assert_null(handover_take(given(&call), &got));
		assert_int_equal(got.options.verb, call.options.verb);
		assert_int_equal(got.options.no_target,
		    call.options.no_target);
		assert_null(got.environment[0]);
		forget(&got);
	}
}

static void
nobody_can_change_it_on_the_way(void **state)
{
	struct call call = made(WORDS("x", "cleanup"), NULL);
	int fd = given(&call);

	(void)state;
	assert_int_equal(pwrite(fd, "x", 1, 0), -1);
	assert_int_equal(ftruncate(fd, 0), -1);
	assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
	(void)close(fd);
}

/* The bytes of a sound call, to be spoilt. */
static size_t
bytes_of(const struct call *call, char *bytes, size_t size)
{
	int fd = given(call);
	ssize_t n = pread(fd, bytes, size, 0);

	assert_in_range(n, 1, size - 1);
	(void)close(fd);
	return (size_t)n;
}

static void
a_file_that_is_not_sealed_is_not_taken(void **state)
{
	struct call call = made(WORDS("x", "cleanup"), NULL), got;
	char bytes[4096];
	size_t len = bytes_of(&call, bytes, sizeof(bytes));
	int fd = memfd_create("test", MFD_ALLOW_SEALING);

	(void)state;
	assert_int_equal(write(fd, bytes, len), len);
	assert_non_null(handover_take(fd, &got));
	assert_int_equal(fcntl(fd, F_ADD_SEALS, PIL_SEALS & ~F_SEAL_WRITE), 0);
	assert_non_null(handover_take(fd, &got));
	assert_non_null(handover_take(-1, &got));
	(void)close(fd);
}

static void
another_length_is_not_taken(void **state)
{
	struct call call = made(WORDS("x", "run", "--proxy", "/p", "--",
	    "/bin/true"), NULL), got;
	char bytes[4096];
	size_t len = bytes_of(&call, bytes, sizeof(bytes)), n;

	(void)state;
	bytes[len] = '\0';
	for (n = 0; n <= len + 1; n++) {
		if ((handover_decode(bytes, n, &got) == NULL) != (n == len))
			fail_msg("%zu of %zu bytes", n, len);
		forget(&got);
	}
}

static void
what_no_command_line_can_say_is_not_taken(void **state)
{
	struct call call = made(WORDS("x", "run", "--proxy", "/p", "--",
	    "/bin/true"), NULL), got;
	char sound[4096], bytes[4096];
	size_t len = bytes_of(&call, sound, sizeof(sound)), i;
	struct {
		const char *what;
		size_t at;
		uint32_t value;
	} wrong[] = {
#define AT(field) offsetof(struct handover, field)
		{ "magic", AT(magic), 0 },
		{ "version", AT(version), 2 },
		{ "no proxy", AT(given), 0 },
		{ "too many given", AT(given), 3 },
		{ "unknown given", AT(given), 1 | 1u << 31 },
		{ "no words", AT(words), 0 },
		{ "more words", AT(words), 2 },
		{ "all words", AT(words), UINT32_MAX },
		{ "variables", AT(variables), 1 },
		{ "all variables", AT(variables), UINT32_MAX },
		{ "verb", AT(verb), VERB_CONTROL },
		{ "map's", AT(verb), VERB_MAP },
		{ "glexec", AT(glexec), 2 },
		{ "no_target", AT(no_target), 2 },
		{ "every uid", AT(uid), UINT32_MAX },
		{ "every gid", AT(gid), UINT32_MAX },
		{ "mask", AT(mask), 01777 },
		{ "pid", AT(pid), 0 },
		{ "parent", AT(parent), UINT32_MAX },
		{ "unified bound", AT(bounds[TREE_UNIFIED]), 1 },
		{ "cpu bound", AT(bounds[TREE_CPU]), 1 },
		{ "unclean job id", AT(job_id), '\n' },
		{ "unended job id", AT(job_id) + PIL_JOB_ID_SIZE - 1, 'x' },
#undef AT
	};

	(void)state;
	for (i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		memcpy(bytes, sound, len);
		memcpy(bytes + wrong[i].at, &wrong[i].value,
		    sizeof(wrong[i].value));
		if (handover_decode(bytes, len, &got) == NULL)
			fail_msg("%s", wrong[i].what);
		forget(&got);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_call_arrives_as_it_was_made),
		cmocka_unit_test(every_verb_that_is_kept_arrives),
		cmocka_unit_test(nobody_can_change_it_on_the_way),
		cmocka_unit_test(a_file_that_is_not_sealed_is_not_taken),
		cmocka_unit_test(another_length_is_not_taken),
		cmocka_unit_test(what_no_command_line_can_say_is_not_taken),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
