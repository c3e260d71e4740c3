/*
 * DNs and FQANs are compared as names, not as strings.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <limits.h>

#include <cmocka.h>

#include "map/leasename.h"
#include "base/names.h"

static void
one_name_in_many_spellings_is_equal(void **state)
{
	static const char *const pairs[][2] = {
		{ "/O=Grid/CN=a/Email=x@y", "/O=Grid/CN=a/emailAddress=x@y" },
		{ "/O=Grid/CN=a/E=x@y", "/O=Grid/CN=a/Email=x@y" },
		{ "/DC=org/USERID=jo/CN=a", "/DC=org/UID=jo/CN=a" },
		{ "/O=Grid/CN=host/x.org", "/O=Grid/CN=host\\/x.org" },
		{ "/O=Grid/CN=\\xC3\\xA9", "/O=Grid/CN=\xC3\xA9" },
		{ "/O=Grid/CN=\\xc3\\xa9", "/O=Grid/CN=\\xC3\\xA9" },
		{ "/O=Grid/CN=a/1.2.840=x", "/O=Grid/CN=a/1.2.840=x" },
	};
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++)
		assert_true(pil_dn_equal(pairs[i][0], pairs[i][1]));
}

static void
different_names_are_never_equal(void **state)
{
	static const char *const pairs[][2] = {
		{ "/O=Grid/CN=a", "/O=Grid/CN=A" },
		{ "/O=Grid/CN=a", "/O=grid/CN=a" },
		{ "/O=Grid/CN=a", "/O=Grid/CN=a " },
		{ "/O=Grid/CN=a\\/CN=b", "/O=Grid/CN=a/CN=b" },
		{ "/O=Grid/CN=a", "/O=Grid/CN=a/CN=b" },
		{ "/O=Grid/CN=a", "O=Grid/CN=a" },
		{ "/O=Grid/CN=e", "/O=Grid/CN=\xC3\xA9" },
		{ "/O=Grid/CN=a\\\\xC3", "/O=Grid/CN=a\xC3" },
		{ "/O=Grid/CN=a\\x00", "/O=Grid/CN=a\\x00" },
		{ "/O=Grid/CN=a\\q", "/O=Grid/CN=a\\q" },
		{ "", "" },
		{ "/", "/" },
		{ "/a", "/a" },
	};
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++)
		assert_false(pil_dn_equal(pairs[i][0], pairs[i][1]));
}

static void
an_fqan_pattern_covers_its_own_vo_only(void **state)
{
	static const struct {
		const char	*pattern, *fqan;
		int		 covered;
	} cases[] = {
		{ "/vo", "/vo", 1 },
		{ "/vo", "/vo/Role=NULL/Capability=NULL", 1 },
		{ "/vo/Role=NULL", "/vo", 1 },
		{ "/vo", "/vo/sub", 0 },
		{ "/vo", "/vo/Role=pilot", 0 },
		{ "/vo", "/vo2", 0 },
		{ "/vo/*", "/vo/sub", 1 },
		{ "/vo/*", "/vo/sub/sub/Role=x", 1 },
		{ "/vo/*", "/vo/Role=x", 1 },
		{ "/vo/*", "/vo", 0 },
		{ "/vo/*", "/vo2/sub", 0 },
		{ "/vo*", "/vo", 1 },
		{ "/vo*", "/vo/sub/Role=x", 1 },
		{ "/vo*", "/vo2", 0 },
		{ "/vo*", "/vo2/sub", 0 },
		{ "/v*", "/vo", 0 },
		{ "/v?", "/vo", 0 },
		{ "/*", "/vo/sub", 1 },
		{ "/vo/*/Role=x", "/vo/a/Role=x", 1 },
		{ "/vo/*/Role=x", "/vo/a/b/Role=x", 1 },
		{ "/vo/*/Role=x", "/vo/Role=x", 0 },
		{ "/vo/Role=p*", "/vo/Role=pilot", 1 },
		{ "/vo/Role=p*", "/vo/Role=p/x", 0 },
		{ "/vo/s*", "/vo/sub/deep", 0 },
		{ "vo", "vo", 0 },
		{ "//vo", "//vo", 0 },
		{ "", "", 0 },
		{ "/", "/", 0 },
	};
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		if (pil_fqan_match(cases[i].pattern, cases[i].fqan) !=
		    cases[i].covered)
			fail_msg("%s and %s", cases[i].pattern, cases[i].fqan);
}

static void
a_bound_covers_what_is_below_it(void **state)
{
	(void)state;
	assert_true(pil_fqan_below("/demo", "/demo"));
	assert_true(pil_fqan_below("/demo", "/demo/sub/Role=x"));
	assert_true(pil_fqan_below("/demo/Role=x", "/demo/Role=x"));
	assert_false(pil_fqan_below("/demo", "/demo2"));
	assert_false(pil_fqan_below("/demo/sub", "/demo"));
	assert_false(pil_fqan_below("/demo/Role=x", "/demo/Role=xy"));
}

static void
a_lease_is_one_persons(void **state)
{
	static const char *const names[] = { "/O=Grid/CN=ab", "/O=Grid/CN=Ab",
	    "/O=Grid/CN=AB", "/O=Grid/CN=a b", "/O=Grid/CN=a%20b",
	    "/O=Grid/CN=a/CN=b", "/O=Grid/CN=a\\/CN=b", "/O=Grid/CN=a\\\\b" };
	char left[NAME_MAX + 1], right[NAME_MAX + 1], big[1000];
	size_t n = sizeof(names) / sizeof(names[0]), i, j;

	(void)state;
	for (i = 0; i < n; i++)
		for (j = 0; j < i; j++) {
			assert_int_equal(pil_lease_name(names[i], NULL,
			    PIL_LEASES_STRICT, left, sizeof(left)), 0);
			assert_int_equal(pil_lease_name(names[j], NULL,
			    PIL_LEASES_STRICT, right, sizeof(right)), 0);
			assert_string_not_equal(left, right);
		}
	assert_int_equal(pil_lease_name("/CN=a1", "demo",
	    PIL_LEASES_STRICT, left, sizeof(left)), 0);
	assert_string_equal(left, "%2f%43%4e%3da1:demo");
	/* A name too long for a file has a digest at its end. */
	memset(big, 'a', sizeof(big) - 1);
	big[sizeof(big) - 1] = '\0';
	memcpy(big, "/CN=", 4);
	assert_int_equal(pil_lease_name(big, "demo", PIL_LEASES_STRICT, left,
	    sizeof(left)), 0);
	big[sizeof(big) - 2] = 'b';
	assert_int_equal(pil_lease_name(big, "demo", PIL_LEASES_STRICT, right,
	    sizeof(right)), 0);
	assert_true(strlen(left) <= NAME_MAX);
	assert_non_null(strstr(left, "%%"));
	assert_string_not_equal(left, right);
	/* LCMAPS's own: the DN as it is, lower-cased. */
	assert_int_equal(pil_lease_name("/C=NL/CN=A b\\xC3", "demo:more",
	    PIL_LEASES_LCMAPS, left, sizeof(left)), 0);
	assert_string_equal(left,
	    "%2fc%3dnl%2fcn%3da%20b%5cxc3:demo:more");
}

static void
an_owner_is_told_by_every_letter(void **state)
{
	char left[65], right[65];

	(void)state;
	assert_int_equal(pil_lease_owner("/CN=a/Email=x", left), 0);
	assert_int_equal(pil_lease_owner("/CN=a/emailAddress=x", right), 0);
	assert_string_equal(left, right);
	assert_int_equal(pil_lease_owner("/CN=A/emailAddress=x", right), 0);
	assert_string_not_equal(left, right);
	assert_int_equal(pil_lease_owner("a", right), -1);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_name_in_many_spellings_is_equal),
		cmocka_unit_test(different_names_are_never_equal),
		cmocka_unit_test(an_fqan_pattern_covers_its_own_vo_only),
		cmocka_unit_test(a_bound_covers_what_is_below_it),
		cmocka_unit_test(a_lease_is_one_persons),
		cmocka_unit_test(an_owner_is_told_by_every_letter),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
