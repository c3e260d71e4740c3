/*
 * Map files, bans, accounts and pool leases, on files and a user database of
 * their own (mapping.h).
 */
#include <sys/stat.h>
#include <sys/wait.h>

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "map/leasename.h"
#include "map/note.h"
#include "mapping.h"

static enum pil_reason
map_text(const char *text, size_t len, const char *dn, const char *first,
    const char *second)
{
	struct pil_identity *who = &request.who;

	memset(who, 0, sizeof(*who));
	(void)snprintf(who->dn, sizeof(who->dn), "%s", dn);
	if (first != NULL)
		(void)strcpy(who->fqan[who->fqan_count++], first);
	if (second != NULL)
		(void)strcpy(who->fqan[who->fqan_count++], second);
	write_bytes("map", text, len);
	free(options.policy_words);
	assert_null(pil_map_config_judge(&options));
	return pil_map(&options, &request, &result);
}

static enum pil_reason
map(const char *text, const char *dn, const char *first, const char *second)
{
	return map_text(text, strlen(text), dn, first, second);
}

/* And a gridmapdir; the verifier's account is none of the pool. */
static int
set_up_pool(void **state)
{
	if (set_up(state) == -1)
		return -1;
	request.verifier_uid = 19999;
	return mkdir(at("pool"), 0755);
}

static void
the_first_fqan_decides_then_the_dn(void **state)
{
	static const char text[] = "# comment\n\n"
	    "\"/O=Grid/CN=a\" demo3\n"
	    "\"/vo/Role=x\"\tdemo1 , demo4 # comment\n"
	    "/vo demo2\n";

	(void)state;
	assert_int_equal(map(text, "/O=Grid/CN=a", "/vo/Role=x", "/vo"),
	    PIL_OK);
	assert_string_equal(result.account, "demo1");
	assert_int_equal(map(text, "/O=Grid/CN=a", "/vo", "/vo/Role=x"),
	    PIL_OK);
	assert_string_equal(result.account, "demo2");
	assert_int_equal(map(text, "/O=Grid/CN=a", "/other", NULL), PIL_OK);
	assert_string_equal(result.account, "demo3");
	assert_int_equal(result.uid, 20003);
	assert_int_equal(result.ngroups, 2);
	assert_int_equal(map(text, "/O=Grid/CN=b", "/other", NULL),
	    PIL_NO_MAPPING);
	/* No wildcard in a DN line: that star is a letter. */
	assert_int_equal(map("\"/O=Grid/CN=*\" demo1\n", "/O=Grid/CN=b", NULL,
	    NULL), PIL_NO_MAPPING);
}

static void
every_broken_line_is_told(void **state)
{
	static const char *const wrong[] = { "\"/O=Grid/CN=a demo1",
	    "\"/O=Grid/CN=a\"", "\"/O=Grid/CN=a\"demo1", "/vo", "vo demo1",
	    "/vo demo1,,demo/2", "/vo 0", "/vo -1", "/vo ..", "/vo .",
	    "/vo +demo", "/O=Grid/CN=\\x00 demo1", "/vo de\x01mo",
	    "\"\" demo1", "//vo demo1" };
	char text[256];
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		(void)snprintf(text, sizeof(text), "/vo demo1\n%s\n", wrong[i]);
		if (map(text, "/O=x", "/vo", NULL) != PIL_MAP_FILE_MALFORMED)
			fail_msg("%s", wrong[i]);
	}
	assert_int_equal(map("/vo demo1\nx\n#\ny\n", "/O=x", "/vo", NULL),
	    PIL_MAP_FILE_MALFORMED);
	assert_non_null(strstr(result.detail, "2 broken, lines 2 4"));
	assert_int_equal(map_text("/vo demo1\n/vo de\0mo2\n", 22, "/O=x",
	    "/vo", NULL), PIL_MAP_FILE_MALFORMED);
	assert_int_equal(map("/vo demo1", "/O=x", "/vo", NULL), PIL_OK);
	assert_int_equal(map("/vo demo1\r\n", "/O=x", "/vo", NULL), PIL_OK);
}

static void
bans_come_first(void **state)
{
	static const char text[] = "/vo demo1\n";

	(void)state;
	options.ban_file = at("ban");
	assert_int_equal(map(text, "/O=Grid/CN=a", "/vo", NULL),
	    PIL_MAP_FILE_UNUSABLE);
	write_file("ban", "/x\n");
	assert_int_equal(map(text, "/O=Grid/CN=a", "/vo", NULL), PIL_OK);
	write_file("ban", "\"/O=Grid/CN=a\"\n");
	assert_int_equal(map(text, "/O=Grid/CN=a", "/vo", NULL),
	    PIL_OWNER_BANNED);
	/* A star crosses slashes in a ban. */
	write_file("ban", "\"/O=Grid/*\"\n");
	assert_int_equal(map(text, "/O=Grid/OU=x/CN=a", "/vo", NULL),
	    PIL_OWNER_BANNED);
	write_file("ban", "/vo/*\n");
	assert_int_equal(map(text, "/O=Grid/CN=a", "/vo", "/vo/Role=x"),
	    PIL_OWNER_BANNED);
	write_file("ban", "broken\n");
	assert_int_equal(map(text, "/O=Grid/CN=a", "/vo", NULL),
	    PIL_MAP_FILE_MALFORMED);
}

static void
accounts_that_run_nothing_are_refused(void **state)
{
	static const struct {
		const char	*account;
		enum pil_reason	 reason;
	} cases[] = {
		{ "nobody-here", PIL_ACCOUNT_UNKNOWN },
		{ "Upper", PIL_ACCOUNT_UNKNOWN },
		{ "uid0", PIL_ACCOUNT_FORBIDDEN },
		{ "uid999", PIL_ACCOUNT_FORBIDDEN },
		{ "uid4294967295", PIL_ACCOUNT_FORBIDDEN },
		{ "uid4294967294", PIL_ACCOUNT_FORBIDDEN },
		{ "uid65534", PIL_ACCOUNT_FORBIDDEN },
		{ "uid20050", PIL_ACCOUNT_FORBIDDEN },
		{ "uid2147483649", PIL_OK },
		{ "gid0", PIL_GROUP_FORBIDDEN },
		{ "gid999", PIL_GROUP_FORBIDDEN },
		{ "demo97", PIL_GROUP_FORBIDDEN },
		{ "demo98", PIL_GROUP_FORBIDDEN },
	};
	char text[128];
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		(void)snprintf(text, sizeof(text), "/vo %s\n",
		    cases[i].account);
		if (map(text, "/O=x", "/vo", NULL) != cases[i].reason)
			fail_msg("%s: %s", cases[i].account, result.detail);
	}
	database_error = EIO;
	assert_int_equal(map("/vo demo1\n", "/O=x", "/vo", NULL),
	    PIL_ACCOUNT_LOOKUP);
	database_error = ENOENT;
	assert_int_equal(map("/vo demo1\n", "/O=x", "/vo", NULL),
	    PIL_ACCOUNT_UNKNOWN);
}

static nlink_t
links(const char *name)
{
	struct stat st;

	return stat(at(name), &st) == 0 ? st.st_nlink : 0;
}

static void
a_pool_account_is_leased_once_and_found_again(void **state)
{
	static const char text[] = "/vo .demo\n\"/O=Grid/CN=d\" .demo\n";

	(void)state;
	options.gridmapdir = at("pool");
	assert_int_equal(map(text, "/O=a", "/vo", NULL), PIL_POOL_EXHAUSTED);
	write_file("pool/demo10", "");
	write_file("pool/demo9", "");
	write_file("pool/demox", "");
	write_file("pool/other1", "");
	request.flags = PIL_M_DRY_RUN;
	assert_int_equal(map(text, "/O=a", "/vo", NULL), PIL_OK);
	assert_int_equal(links("pool/demo9"), 1);
	request.flags = 0;
	assert_int_equal(map(text, "/O=a", "/vo", NULL), PIL_OK);
	assert_string_equal(result.account, "demo9");
	assert_string_equal(result.lease, "%2f%4f%3da:demo");
	assert_int_equal(links("pool/demo9"), 2);
	assert_int_equal(map(text, "/O=a", "/vo", NULL), PIL_OK);
	assert_string_equal(result.account, "demo9");
	/* By the DN alone it is another lease, without a group. */
	assert_int_equal(map(text, "/O=Grid/CN=d", NULL, NULL), PIL_OK);
	assert_string_equal(result.account, "demo10");
	assert_string_equal(result.lease, "%2f%4f%3d%47rid%2f%43%4e%3dd");
	assert_int_equal(map(text, "/O=A", "/vo", NULL), PIL_POOL_EXHAUSTED);
}

static void
leases_that_contradict_are_refused(void **state)
{
	static const char text[] = "/vo .demo\n";

	(void)state;
	options.gridmapdir = at("pool");
	write_file("pool/other1", "");
	write_file("pool/demo1", "");
	assert_int_equal(link(at("pool/other1"), at("pool/%2f%4f%3da:demo")),
	    0);
	assert_int_equal(map(text, "/O=a", "/vo", NULL),
	    PIL_POOL_LEASE_CONFLICT);
	assert_int_equal(link(at("pool/other1"), at("pool/%2f%4f%3db:demo")),
	    0);
	assert_int_equal(map(text, "/O=a", "/vo", NULL),
	    PIL_POOL_LEASE_CONFLICT);
	assert_int_equal(symlink("demo1", at("pool/%2f%4f%3dc:demo")), 0);
	assert_int_equal(map(text, "/O=c", "/vo", NULL), PIL_POOL_UNUSABLE);
	/* An orphan is removed and leased anew. */
	write_file("pool/%2f%4f%3dd:demo", "");
	assert_int_equal(map(text, "/O=d", "/vo", NULL), PIL_OK);
	assert_string_equal(result.account, "demo1");
	assert_int_equal(links("pool/demo1"), 2);
	/* An account that is not there is refused, and nothing is leased. */
	write_file("pool/none1", "");
	assert_int_equal(map("/vo .none\n", "/O=e", "/vo", NULL),
	    PIL_ACCOUNT_UNKNOWN);
	assert_int_equal(links("pool/none1"), 1);
	options.gridmapdir = "/nonexistent/pool";
	assert_int_equal(map(text, "/O=d", "/vo", NULL), PIL_POOL_UNUSABLE);
	options.gridmapdir = NULL;
	assert_int_equal(map(text, "/O=d", "/vo", NULL), PIL_NO_MAPPING);
}

static void
a_note_that_lies_costs_time_and_nothing_else(void **state)
{
	static const char text[] = "/vo .demo\n";
	static const char *const lies[] = { "", "\n\n\n", "demo2",
	    "demo2\n%2f%4f%3da:demo\n0\n", "../pool/demo2\n\n\n",
	    "demo2\n%2f%4f%3da:demo\n"
	    "0123456789012345678901234567890123456789012345678901234567890123\n",
	    "demo9\n%2f%4f%3dother\n"
	    "0123456789012345678901234567890123456789012345678901234567890123\n" };
	char big[5000];
	size_t i;

	(void)state;
	options.gridmapdir = at("pool");
	write_file("pool/demo1", "");
	write_file("pool/demo2", "");
	assert_int_equal(map(text, "/O=a", "/vo", NULL), PIL_OK);
	assert_string_equal(result.account, "demo1");
	for (i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
		write_file("pool/demo1", lies[i]);
		/* Another's name in it refuses; it never leads elsewhere. */
		if (map(text, "/O=a", "/vo", NULL) != PIL_OK)
			assert_int_equal(i, 5);
		else
			assert_string_equal(result.account, "demo1");
	}
	memset(big, 'x', sizeof(big));
	write_bytes("pool/demo1", big, sizeof(big));
	assert_int_equal(map(text, "/O=a", "/vo", NULL), PIL_OK);
	assert_string_equal(result.account, "demo1");
	/* A lease of another service's has none, and is found all the same. */
	assert_int_equal(link(at("pool/demo2"), at("pool/%2f%4f%3db:demo")), 0);
	assert_int_equal(map(text, "/O=b", "/vo", NULL), PIL_OK);
	assert_string_equal(result.account, "demo2");
}

static void
a_list_of_free_accounts_that_lies_costs_time_and_nothing_else(void **state)
{
	static const char text[] = "/vo .demo\n/x .other\n";
	static const char lies[] = "demo1\ndemo7\n../map\ndemo3\n\n%2f\nother9";
	char name[64];
	int i;

	(void)state;
	options.gridmapdir = at("pool");
	write_file("pool/demo1", "");
	assert_int_equal(map(text, "/O=a", "/vo", NULL), PIL_OK);
	/* demo1 is taken, demo7 is not there, demo3 is a directory. */
	assert_int_equal(mkdir(at("pool/demo3"), 0755), 0);
	write_file("pool/.pilotage.free", lies);
	assert_int_equal(map(text, "/O=b", "/vo", NULL), PIL_POOL_EXHAUSTED);
	write_file("pool/demo9", "");
	assert_int_equal(map(text, "/O=b", "/vo", NULL), PIL_OK);
	assert_string_equal(result.account, "demo9");
	/* More than the list holds, and two pools: each gets what there is. */
	for (i = 100; i < 100 + 3 * PIL_FREE_MAX; i++) {
		(void)snprintf(name, sizeof(name), "pool/demo%d", i);
		write_file(name, "");
	}
	for (i = 0; i < 3 * PIL_FREE_MAX; i++) {
		(void)snprintf(name, sizeof(name), "/O=c%d", i);
		assert_int_equal(map(text, name, "/x", NULL),
		    PIL_POOL_EXHAUSTED);
		assert_int_equal(map(text, name, "/vo", NULL), PIL_OK);
		(void)snprintf(name, sizeof(name), "demo%d", 100 + i);
		assert_string_equal(result.account, name);
	}
	assert_int_equal(map(text, "/O=d", "/vo", NULL), PIL_POOL_EXHAUSTED);
}

static void
two_owners_never_share_a_name_as_lcmaps_writes_it(void **state)
{
	static const char text[] = "/vo .demo\n";

	(void)state;
	options.gridmapdir = at("pool");
	options.lease_names = PIL_LEASES_LCMAPS;
	write_file("pool/demo1", "");
	write_file("pool/demo2", "");
	assert_int_equal(map(text, "/O=a/CN=Ann", "/vo", NULL), PIL_OK);
	assert_string_equal(result.lease, "%2fo%3da%2fcn%3dann:demo");
	assert_int_equal(map(text, "/O=a/CN=ann", "/vo", NULL),
	    PIL_POOL_LEASE_CONFLICT);
	assert_non_null(strstr(result.detail, "only in case"));
	request.flags = PIL_M_DRY_RUN;
	assert_int_equal(map(text, "/O=a/CN=ann", "/vo", NULL),
	    PIL_POOL_LEASE_CONFLICT);
	request.flags = 0;
	assert_int_equal(map(text, "/O=a/CN=Ann", "/vo", NULL), PIL_OK);
	assert_string_equal(result.account, "demo1");
	/* The note ends with the lease: the account's next owner is another. */
	assert_int_equal(unlink(at("pool/%2fo%3da%2fcn%3dann:demo")), 0);
	assert_int_equal(map(text, "/O=a/CN=ann", "/vo", NULL), PIL_OK);
	assert_string_equal(result.account, "demo1");
	assert_int_equal(map(text, "/O=a/CN=Ann", "/vo", NULL),
	    PIL_POOL_LEASE_CONFLICT);
	/* A lease that LCMAPS made is the first comer's. */
	assert_int_equal(link(at("pool/demo2"),
	    at("pool/%2fo%3da%2fcn%3dbob:demo")), 0);
	assert_int_equal(map(text, "/O=a/CN=BOB", "/vo", NULL), PIL_OK);
	assert_string_equal(result.account, "demo2");
	assert_int_equal(map(text, "/O=a/CN=bob", "/vo", NULL),
	    PIL_POOL_LEASE_CONFLICT);
}

#define CROWD	120

static void
a_crowd_of_first_visits_gets_an_account_each(void **state)
{
	char name[64];
	int i, status, good = 0;

	(void)state;
	options.gridmapdir = at("pool");
	for (i = 1; i <= 90; i++) {
		(void)snprintf(name, sizeof(name), "pool/demo%d", i);
		write_file(name, "");
	}
	write_file("map", "/vo .demo\n");
	assert_null(pil_map_config_judge(&options));
	for (i = 0; i < CROWD; i++)
		if (fork() == 0) {
			/* 80 owners; 40 of them come twice. */
			memset(&request.who, 0, sizeof(request.who));
			(void)snprintf(request.who.dn, PIL_DN_SIZE, "/CN=%d",
			    i % 80);
			(void)strcpy(request.who.fqan[0], "/vo");
			request.who.fqan_count = 1;
			request.caller = 1;
			_exit(pil_map(&options, &request, &result) ==
			    PIL_OK ? 0 : 1);
		}
	while (wait(&status) > 0)
		good += WIFEXITED(status) && WEXITSTATUS(status) == 0;
	assert_int_equal(good, CROWD);
	for (i = 1, good = 0; i <= 90; i++) {
		(void)snprintf(name, sizeof(name), "pool/demo%d", i);
		assert_true(links(name) <= 2);
		good += links(name) == 2;
	}
	assert_int_equal(good, 80);
}

#undef TEST
#define TEST(f)	cmocka_unit_test_setup_teardown(f, set_up_pool, tear_down)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(the_first_fqan_decides_then_the_dn),
		TEST(every_broken_line_is_told),
		TEST(bans_come_first),
		TEST(accounts_that_run_nothing_are_refused),
		TEST(a_pool_account_is_leased_once_and_found_again),
		TEST(leases_that_contradict_are_refused),
		TEST(a_note_that_lies_costs_time_and_nothing_else),
		TEST(a_list_of_free_accounts_that_lies_costs_time_and_nothing_else),
		TEST(two_owners_never_share_a_name_as_lcmaps_writes_it),
		TEST(a_crowd_of_first_visits_gets_an_account_each),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
