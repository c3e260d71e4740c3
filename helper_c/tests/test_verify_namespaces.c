/*
 * namespaces: what a file says of a name, and which files are malformed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "verify/core.h"

#define CA	"/C=XX/O=Grid/CN=CA"
#define TO	"TO Issuer \"" CA "\" "
#define ALL	TO "PERMIT Subject \"/C=XX/O=Grid/.*\"\n"

static enum pil_said
ask(const char *text, const char *subject)
{
	unsigned line;

	return pil_namespaces_say(text, strlen(text), CA, subject, 1, &line);
}

static enum pil_said
permit(const char *pattern, const char *subject)
{
	char text[2048];

	(void)snprintf(text, sizeof(text), TO "PERMIT Subject \"%s\"\n",
	    pattern);
	return ask(text, subject);
}

static void
test_a_file_as_the_federation_ships_it(void **state)
{
	static const char text[] =
	    "################################################\n"
	    "#NAMESPACES-VERSION: 1.0\n"
	    "#\n"
	    "# @(#)12345678.namespaces\n"
	    "#    subord_of: \\\n"
	    "TO Issuer \"" CA "\" \\\n"
	    "  PERMIT Subject \"/C=XX/O=Grid/.*\"\n"
	    "\n"
	    "TO Issuer \"/C=XX/O=Grid/CN=Sub\" \\\r\n"
	    "\tpermit subject \"/O=Sub/.*\" # a comment\r\n"
	    "to issuer \"" CA "\" PERMIT \\\n  \\\n Subject \"/O=Last\"";

	(void)state;
	assert_int_equal(ask(text, "/C=XX/O=Grid/CN=a"), PIL_SAID_YES);
	assert_int_equal(ask(text, "/O=Last"), PIL_SAID_YES);
	assert_int_equal(ask(text, "/O=Sub/CN=a"), PIL_SAID_NO);
	assert_int_equal(ask(text, "/C=XX/O=Grid"), PIL_SAID_NO);
}

static void
test_a_pattern_stands_for_the_whole_name(void **state)
{
	(void)state;
	assert_int_equal(permit("/O=x", "/O=x"), PIL_SAID_YES);
	assert_int_equal(permit("/O=x", "/O=xy"), PIL_SAID_NO);
	assert_int_equal(permit("/O=x", "/C=y/O=x"), PIL_SAID_NO);
	assert_int_equal(permit("/O=x", "/O=X"), PIL_SAID_NO);
	assert_int_equal(permit("/O=.*/CN=a.*b", "/O=x/OU=/CN=ab/CN=acb"),
	    PIL_SAID_YES);
	assert_int_equal(permit("/O=.*/CN=a.*b", "/O=x/CN=abc"), PIL_SAID_NO);
	assert_int_equal(permit(".*", "/O=x"), PIL_SAID_YES);
	assert_int_equal(permit(".*.*x.*", "/O=x"), PIL_SAID_YES);
	assert_int_equal(permit("/O=.", "/O=x"), PIL_SAID_YES);
	assert_int_equal(permit("/O=.", "/O="), PIL_SAID_NO);
	assert_int_equal(permit("/O=..", "/O=x"), PIL_SAID_NO);
	assert_int_equal(permit("/O=L.L.C.", "/O=L.L.C."), PIL_SAID_YES);
}

static void
test_a_backslash_takes_the_meaning_away(void **state)
{
	(void)state;
	assert_int_equal(permit("/O=a\\.b", "/O=a.b"), PIL_SAID_YES);
	assert_int_equal(permit("/O=a\\.b", "/O=axb"), PIL_SAID_NO);
	assert_int_equal(permit("/O=a\\.*", "/O=a."), PIL_SAID_MALFORMED);
	assert_int_equal(permit("/O=\\(c\\) \\#1 \\\"x\\\"",
	    "/O=(c) #1 \"x\""), PIL_SAID_YES);
	assert_int_equal(permit("/O=\\\\xC3", "/O=\\xC3"), PIL_SAID_YES);
}

static void
test_brackets_are_text_where_they_permit(void **state)
{
	(void)state;
	assert_int_equal(permit("/CN=CA  [Run by the Issuer]",
	    "/CN=CA  [Run by the Issuer]"), PIL_SAID_YES);
	assert_int_equal(permit("/CN=[ab]", "/CN=a"), PIL_SAID_NO);
	assert_int_equal(ask(TO "DENY Subject \"/CN=[ab]\"\n", "/CN=a"),
	    PIL_SAID_MALFORMED);
	assert_int_equal(ask(ALL TO "DENY Subject \"/C=XX/O=Grid/CN=\\[a\\]\"",
	    "/C=XX/O=Grid/CN=[a]"), PIL_SAID_NO);
}

static void
test_one_deny_refuses_wherever_it_stands(void **state)
{
	static const char deny[] =
	    TO "DENY Subject \"/C=XX/O=Grid/CN=old .*\"\n";
	char text[512];

	(void)state;
	(void)snprintf(text, sizeof(text), "%s%s", deny, ALL);
	assert_int_equal(ask(text, "/C=XX/O=Grid/CN=old x"), PIL_SAID_NO);
	assert_int_equal(ask(text, "/C=XX/O=Grid/CN=OLD x"), PIL_SAID_NO);
	assert_int_equal(ask(text, "/C=XX/O=Grid/CN=new"), PIL_SAID_YES);
	(void)snprintf(text, sizeof(text), "%s%s", ALL, deny);
	assert_int_equal(ask(text, "/C=XX/O=Grid/CN=old x"), PIL_SAID_NO);
	assert_int_equal(ask(deny, "/C=XX/O=Grid/CN=new"), PIL_SAID_NO);
}

static void
test_self_is_the_authority_of_the_file(void **state)
{
	static const char text[] = "TO Issuer SELF PERMIT Subject \"/O=x.*\"";
	unsigned line;

	(void)state;
	assert_int_equal(pil_namespaces_say(text, strlen(text), CA, "/O=x", 1,
	    &line), PIL_SAID_YES);
	assert_int_equal(pil_namespaces_say(text, strlen(text), CA, "/O=x", 0,
	    &line), PIL_SAID_NOTHING);
}

static void
test_an_issuer_is_a_name_and_no_pattern(void **state)
{
	(void)state;
	assert_int_equal(ask("TO Issuer \"/C=XX/O=Grid/.*\" "
	    "PERMIT Subject \".*\"", "/O=x"), PIL_SAID_NOTHING);
	assert_int_equal(ask("TO Issuer \"/C=XX/O=Grid\\/CN=CA\" "
	    "PERMIT Subject \".*\"", "/O=x"), PIL_SAID_YES);
	assert_int_equal(ask("", "/O=x"), PIL_SAID_NOTHING);
	assert_int_equal(ask("# " ALL, "/C=XX/O=Grid/CN=a"), PIL_SAID_NOTHING);
}

static void
test_old_spellings_are_the_same_names(void **state)
{
	(void)state;
	assert_int_equal(permit("/O=x/Email=.*", "/O=x/emailAddress=a@b"),
	    PIL_SAID_YES);
	assert_int_equal(permit("/O=x/USERID=u", "/O=x/UID=u"), PIL_SAID_YES);
}

static void
test_malformed_files_and_their_lines(void **state)
{
	static const struct {
		const char	*text;
		unsigned	 line;
	} cases[] = {
		{ "TO\n", 1 }, { ALL "TO Issuer\n", 2 },
		{ "TO Issuer CA PERMIT Subject \".*\"\n", 1 },
		{ "TO Issuer \"x\" ALLOW Subject \".*\"\n", 1 },
		{ "TO Issuer \"x\" PERMIT Issuer \".*\"\n", 1 },
		{ "TO Issuer \"x\" PERMIT Subject /O=x\n", 1 },
		{ "TO Issuer \"x\" PERMIT Subject\"/O=x\"\n", 1 },
		{ "TO Issuer\"x\" PERMIT Subject \"/O=x\"\n", 1 },
		{ "TO Issuer \"x\"PERMIT Subject \"/O=x\"\n", 1 },
		{ "TO Issuer \"\" PERMIT Subject \".*\"\n", 1 },
		{ "TO Issuer \"x\" PERMIT Subject \"\"\n", 1 },
		{ "TO Issuer \"x\" PERMIT Subject \"/O=x\n\"\n", 1 },
		{ "TO Issuer \"x\" PERMIT Subject \"/O=x", 1 },
		{ "TO Issuer \"x\" PERMIT Subject \"/O=x\\", 1 },
		{ "TO Issuer \"x\" PERMIT Subject \"/O=x\" more\n", 1 },
		{ "TO Issuer \"x\" PERMIT Subject \"/O=x#1\"\n", 1 },
		{ "TO Issuer \"x\" PERMIT Subject \"/O=\\d\"\n", 1 },
		{ "TO Issuer \"x\" PERMIT Subject \"/O=\xc3\xa9\"\n", 1 },
		{ "#\n\nTO Issuer \"x\" \\\n  PERMIT \\\n  Subject x\n", 5 },
		{ "TO Issuer \"x\" \\\n\n", 2 },
		{ "TO Issuer \"x\" \\ \n PERMIT Subject \"x\"\n", 1 },
		{ "TO Issuer \"x\" \\\n# no\n PERMIT Subject \"x\"\n", 2 },
		{ "#NAMESPACES-VERSION: 2.0\n", 1 },
		{ "\n  #NAMESPACES-VERSION: 1.0 or so\n" ALL, 2 },
		{ ALL "access_id_CA X509 '/CN=x'\n", 2 },
	};
	static const char *const patterns[] = {
		"/O=*", "*", "/O=a.**", "a+", "a?", "(a)", "a|b", "a{2}", "^/O",
		"/O=x$",
	};
	char longer[PIL_DN_SIZE + 8];
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		assert_int_equal(pil_namespaces_fault(cases[i].text,
		    strlen(cases[i].text)), cases[i].line);
	for (i = 0; i < sizeof(patterns) / sizeof(patterns[0]); i++)
		assert_int_equal(permit(patterns[i], "/O=x"),
		    PIL_SAID_MALFORMED);
	memset(longer, 'x', sizeof(longer));
	longer[sizeof(longer) - 1] = '\0';
	assert_int_equal(permit(longer, longer), PIL_SAID_MALFORMED);
	assert_int_equal(pil_namespaces_fault("#a\0b\n", 5), 1);
	assert_int_equal(pil_namespaces_fault("\0", 1), 1);
	assert_int_equal(pil_namespaces_fault(ALL, strlen(ALL)), 0);
	assert_int_equal(pil_namespaces_fault("#NAMESPACES-VERSION:1.0 \r\n",
	    26), 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_file_as_the_federation_ships_it),
		cmocka_unit_test(test_a_pattern_stands_for_the_whole_name),
		cmocka_unit_test(test_a_backslash_takes_the_meaning_away),
		cmocka_unit_test(test_brackets_are_text_where_they_permit),
		cmocka_unit_test(test_one_deny_refuses_wherever_it_stands),
		cmocka_unit_test(test_self_is_the_authority_of_the_file),
		cmocka_unit_test(test_an_issuer_is_a_name_and_no_pattern),
		cmocka_unit_test(test_old_spellings_are_the_same_names),
		cmocka_unit_test(test_malformed_files_and_their_lines),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
