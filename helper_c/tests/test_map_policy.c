/*
 * The policy: which step decides, from which file, and with which groups.
 */
#include <sys/stat.h>

#include <errno.h>
#include <stdlib.h>

#include "mapping.h"

static const char everything[] =
    "\"/O=Grid/CN=a\" demo1,.pool\n"
    "\"/vo/Role=x\" .pool\n"
    "\"/vo\" .pool,demo2\n";

static void
the_steps_are_tried_in_their_order(void **state)
{
	static const struct {
		const char	*policy, *fqans, *account;
	} cases[] = {
		{ "fqan, dn", "/vo", "demo2" },
		{ "dn, fqan", "/vo", "demo1" },
		{ "fqan", "/vo", "demo2" },
		{ "dn", "/vo", "demo1" },
		{ "fqan-account, dn-account", "/vo", "demo2" },
		{ "fqan-account,dn-account", "/vo/Role=x", "demo1" },
		{ " fqan-account\t,  dn ", "/vo/Role=x", "demo1" },
		/* The first attribute with a line decides within one step. */
		{ "fqan, dn", "/vo/Role=x /vo", "demo2" },
		{ "fqan, dn", "/other", "demo1" },
	};
	size_t i;

	(void)state;
	write_file("map", everything);
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		is_owner("/O=Grid/CN=a", cases[i].fqans);
		if (map_by(cases[i].policy) != PIL_OK ||
		    strcmp(result.account, cases[i].account) != 0)
			fail_msg("%s: %s %s", cases[i].policy, result.account,
			    result.detail);
	}
	is_owner("/O=Grid/CN=a", "/other");
	assert_int_equal(map_by("fqan"), PIL_NO_MAPPING);
	is_owner("/O=Grid/CN=b", "/vo");
	assert_int_equal(map_by("dn"), PIL_NO_MAPPING);
}

static void
no_step_follows_one_that_found_a_line(void **state)
{
	(void)state;
	write_file("map", "\"/O=Grid/CN=a\" demo1\n\"/vo\" nobody-here\n");
	is_owner("/O=Grid/CN=a", "/vo");
	assert_int_equal(map_by("fqan, dn"), PIL_ACCOUNT_UNKNOWN);
	options.gridmapdir = at("pool");
	assert_int_equal(mkdir(options.gridmapdir, 0755), 0);
	write_file("map", everything);
	assert_int_equal(map_by("fqan-pool, dn-account"), PIL_POOL_EXHAUSTED);
	assert_int_equal(map_by("dn-account, fqan-pool"), PIL_OK);
}

static void
pools_and_accounts_are_told_apart(void **state)
{
	(void)state;
	options.gridmapdir = at("pool");
	assert_int_equal(mkdir(options.gridmapdir, 0755), 0);
	write_file("pool/pool1", "");
	write_file("pool/demo3", "");
	write_file("map", "\"/O=Grid/CN=a\" demo1,.demo\n");
	assert_int_equal(map_by("dn-account"), PIL_OK);
	assert_string_equal(result.account, "demo1");
	assert_int_equal(map_by("dn-pool"), PIL_OK);
	assert_string_equal(result.account, "demo3");
	assert_int_equal(map_by("dn"), PIL_OK);
	assert_string_equal(result.account, "demo1");
}

static void
each_step_has_its_file(void **state)
{
	char policy[256];

	(void)state;
	options.voms_mapfile = at("voms");
	write_file("map", "\"/O=Grid/CN=a\" demo1\n\"/vo\" demo2\n");
	write_file("voms", "\"/vo\" demo3\n");
	write_file("more", "\"/O=Grid/CN=a\" demo4\n");
	is_owner("/O=Grid/CN=a", "/vo");
	assert_int_equal(map_by(NULL), PIL_OK);
	assert_string_equal(result.account, "demo3");
	/* Lines of FQANs in the grid-mapfile need a step that reads them. */
	assert_int_equal(map_by("fqan from grid_mapfile, fqan"), PIL_OK);
	assert_string_equal(result.account, "demo2");
	write_file("voms", "\"/vo/x\" demo3\n");
	assert_int_equal(map_by("fqan, dn"), PIL_OK);
	assert_string_equal(result.account, "demo1");
	(void)snprintf(policy, sizeof(policy), "dn from %s, dn, fqan",
	    at("more"));
	assert_int_equal(map_by(policy), PIL_OK);
	assert_string_equal(result.account, "demo4");
	/* A broken file refuses, also one of a step that would not be asked. */
	write_file("voms", "x\n");
	assert_int_equal(map_by(policy), PIL_MAP_FILE_MALFORMED);
}

static void
wrong_policies_are_told(void **state)
{
	static const struct {
		const char	*policy, *tells;
	} cases[] = {
		{ "", "empty step" }, { "fqan,", "empty step" },
		{ ",dn", "empty step" }, { "fqan,,dn", "empty step" },
		{ "FQAN", "begins with none" }, { "dn fqan", "unknown word" },
		{ "dn-group", "begins with none" },
		{ "dn from", "without a file" },
		{ "dn from map", "neither" },
		{ "dn from /a from /b", "from twice" },
		{ "dn groups", "without account" },
		{ "dn groups all", "without account" },
		{ "dn groups fqan groups fqan", "groups twice" },
		{ "dn require-primary", "needs groups" },
		{ "dn groups fqan require-primary require-primary", "twice" },
		{ "dn-pool", "no gridmapdir" },
		{ "dn from voms_mapfile", "does not name" },
		{ "dn groups fqan", "no groupmapfile" },
		{ "dn from /x", "no step of the policy reads grid_mapfile" },
		{ "dn,dn,dn,dn,dn,dn,dn,dn,dn", "more than 8" },
	};
	const char *wrong;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		options.policy_text = cases[i].policy;
		wrong = pil_map_config_judge(&options);
		if (wrong == NULL || strstr(wrong, cases[i].tells) == NULL)
			fail_msg("\"%s\": %s", cases[i].policy,
			    wrong ? wrong : "good");
		free(options.policy_words);
	}
	options.policy_text = NULL;
	options.groupmapfile = "/groups";
	assert_non_null(pil_map_config_judge(&options));
	free(options.policy_words);
	options.groupmapfile = NULL;
	options.voms_mapfile = "/voms";
	options.policy_text = "dn";
	assert_non_null(pil_map_config_judge(&options));
	free(options.policy_words);
	options.grid_mapfile = NULL;
	options.policy_text = "fqan";
	assert_null(pil_map_config_judge(&options));
}

static void
are_groups(const char *what, gid_t gid, const char *list)
{
	char text[1024] = "";
	size_t n = 0;
	uint32_t i;

	for (i = 0; i < result.ngroups; i++)
		n += (size_t)snprintf(text + n, sizeof(text) - n, "%s%u",
		    i ? " " : "", result.groups[i]);
	if (result.gid != gid || strcmp(text, list) != 0)
		fail_msg("%s: %u of %s, not %u of %s (%s)", what, result.gid,
		    text, gid, list, result.detail);
}

static void
attributes_give_groups_in_their_order(void **state)
{
	static const struct {
		const char	*policy, *fqans;
		gid_t		 gid;
		const char	*groups;
	} cases[] = {
		{ "fqan groups account", "/vo/x /vo", 5000, "5000 6000" },
		{ "fqan groups fqan", "/vo/x /vo", 3001, "3001 3000" },
		{ "fqan groups fqan", "/vo /vo/x", 3000, "3000 3001" },
		{ "fqan groups fqan", "/vo /vo/y /vo/x", 3000, "3000 3001" },
		/* 6000 is a group of the account, too. */
		{ "fqan groups both", "/vo /vo/own", 3000, "3000 6000 5000" },
		{ "fqan groups both", "/vo/own /vo", 6000, "6000 3000 5000" },
		/* The first attribute has no group. */
		{ "fqan groups fqan", "/vo/none /vo", 5000, "5000 3000" },
		{ "fqan groups both", "/vo/none /vo", 5000,
		    "5000 3000 6000" },
		{ "fqan groups fqan", "/vo/none", 5000, "5000" },
		{ "dn groups fqan", "/vo/x", 3001, "3001" },
	};
	size_t i;

	(void)state;
	options.groupmapfile = at("groups");
	write_file("groups", "# comment\n\"/vo\" group3000\n"
	    "\"/vo/x\" group3001,group9 # second\n\"/vo/x\" group3002\n"
	    "\"/vo/y\" group3000\n\"/vo/own\" group6000\n");
	write_file("map", "\"/vo/*\" demo1\n\"/vo\" demo1\n"
	    "\"/O=Grid/CN=a\" demo1\n");
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char policy[64];

		is_owner("/O=Grid/CN=a", cases[i].fqans);
		/* The second step only makes use of the file. */
		(void)snprintf(policy, sizeof(policy), "%s, dn groups fqan",
		    cases[i].policy);
		assert_int_equal(map_by(policy), PIL_OK);
		are_groups(cases[i].policy, cases[i].gid, cases[i].groups);
	}
	is_owner("/O=Grid/CN=a", "/vo/none /vo");
	assert_int_equal(map_by("fqan groups fqan require-primary, dn"),
	    PIL_NO_MAPPING);
	is_owner("/O=Grid/CN=a", "/vo /vo/none");
	assert_int_equal(map_by("fqan groups fqan require-primary, dn"),
	    PIL_OK);
}

static void
groups_that_payloads_never_have_refuse(void **state)
{
	static const struct {
		const char	*group;
		enum pil_reason	 reason;
	} cases[] = {
		{ "group0", PIL_GROUP_FORBIDDEN },
		{ "group999", PIL_GROUP_FORBIDDEN },
		{ "group65534", PIL_GROUP_FORBIDDEN },
		{ "group4294967295", PIL_GROUP_FORBIDDEN },
		{ "group4294967294", PIL_GROUP_FORBIDDEN },
		{ "group7000", PIL_GROUP_FORBIDDEN },	/* the caller's */
		{ "group7001", PIL_GROUP_FORBIDDEN },	/* the verifier's */
		{ "none", PIL_GROUP_UNKNOWN },
		{ "Group3000", PIL_GROUP_UNKNOWN },
		{ "group2147483649", PIL_OK },
	};
	char text[128];
	size_t i;
	int second;

	(void)state;
	options.groupmapfile = at("groups");
	write_file("map", "\"/vo\" demo1\n");
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		(void)snprintf(text, sizeof(text),
		    "\"/vo\" group3000\n\"/vo/x\" %s\n", cases[i].group);
		write_file("groups", text);
		/* As the primary group, and as another one. */
		for (second = 0; second < 2; second++) {
			is_owner("/O=Grid/CN=a", second ? "/vo /vo/x" :
			    "/vo/x /vo");
			if (map_by("fqan groups both") != cases[i].reason)
				fail_msg("%s: %s", cases[i].group,
				    result.detail);
		}
	}
	is_owner("/O=Grid/CN=a", "/vo");
	write_file("groups", "\"/vo\" group3000\n");
	database_error = EIO;
	assert_int_equal(map_by("fqan groups both"), PIL_ACCOUNT_LOOKUP);
}

static void
lines_that_name_no_group_are_told(void **state)
{
	static const char *const wrong[] = { "\"/vo\" .group", "\"/vo\"",
	    "\"/O=Grid/CN=a\" group3000", "\"/vo\" 3000", "\"/vo\" a/b" };
	char text[128];
	size_t i;

	(void)state;
	options.groupmapfile = at("groups");
	write_file("map", "\"/vo\" demo1\n");
	is_owner("/O=Grid/CN=a", "/vo");
	assert_int_equal(map_by("fqan groups both"), PIL_MAP_FILE_UNUSABLE);
	for (i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		(void)snprintf(text, sizeof(text), "\"/vo\" group3000\n%s\n",
		    wrong[i]);
		write_file("groups", text);
		if (map_by("fqan groups both") != PIL_MAP_FILE_MALFORMED ||
		    strstr(result.detail, "line 2") == NULL)
			fail_msg("%s: %s", wrong[i], result.detail);
	}
}

static void
a_crowd_of_groups_is_refused_or_named_by_a_digest(void **state)
{
	char text[16384], fqans[1024];
	size_t n = 0, m = 0;
	int i;

	(void)state;
	options.groupmapfile = at("groups");
	options.gridmapdir = at("pool");
	assert_int_equal(mkdir(options.gridmapdir, 0755), 0);
	write_file("pool/demo1", "");
	write_file("map", "\"/v/*\" .demo\n");
	for (i = 0; i < 65; i++) {
		n += (size_t)snprintf(text + n, sizeof(text) - n,
		    "\"/v/%d\" group%d\n", i, 3000 + i);
		m += (size_t)snprintf(fqans + m, sizeof(fqans) - m, "/v/%d ",
		    i);
	}
	write_file("groups", text);
	is_owner("/O=Grid/CN=a", fqans);
	assert_int_equal(map_by("fqan groups fqan"), PIL_GROUP_FORBIDDEN);
	is_owner("/O=Grid/CN=a", "/v/1 /v/2");
	request.flags = PIL_M_DRY_RUN;
	assert_int_equal(map_by("fqan groups fqan"), PIL_OK);
	assert_non_null(strstr(result.lease, "%3da:group3001:group3002"));
	*strstr(fqans, "/v/40") = '\0';
	is_owner("/O=Grid/CN=a", fqans);
	assert_int_equal(map_by("fqan groups fqan"), PIL_OK);
	assert_non_null(strstr(result.lease, "%3da:%%"));
	assert_int_equal(result.ngroups, 40);
	/* By the DN the lease is the person's alone. */
	write_file("map", "\"/O=Grid/CN=a\" .demo\n");
	assert_int_equal(map_by("dn groups both"), PIL_OK);
	assert_null(strchr(result.lease, ':'));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(the_steps_are_tried_in_their_order),
		TEST(no_step_follows_one_that_found_a_line),
		TEST(pools_and_accounts_are_told_apart),
		TEST(each_step_has_its_file),
		TEST(wrong_policies_are_told),
		TEST(attributes_give_groups_in_their_order),
		TEST(groups_that_payloads_never_have_refuse),
		TEST(lines_that_name_no_group_are_told),
		TEST(a_crowd_of_groups_is_refused_or_named_by_a_digest),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
