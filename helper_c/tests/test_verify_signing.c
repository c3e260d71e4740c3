/*
 * signing_policy: what a CA may sign, and which files are malformed.
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
#define ENTRY	"access_id_CA X509 '" CA "'\npos_rights globus CA:sign\n"

static enum pil_reason
ask(const char *text, const char *subject)
{
	return pil_signing_allows(text, strlen(text), CA, subject);
}

static void
test_both_styles_of_quotes_and_none(void **state)
{
	static const char *const lists[] = {
		"'\"/C=XX/O=Grid/*\"'", "\"'/C=XX/O=Grid/*'\"",
		"'/C=XX/O=Grid/*'", "\"/C=XX/O=Grid/*\"",
		"'\"/O=Other/*\"  \"/C=XX/O=Grid/*\"'",
		"'/O=Other/* /C=XX/O=Grid/*'",
		"'\"/O=Other/*\" /C=XX/O=Grid/*'",
		"/C=XX/O=Grid/*",
	};
	char text[512];
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
		(void)snprintf(text, sizeof(text),
		    ENTRY "cond_subjects globus %s\n", lists[i]);
		assert_int_equal(ask(text, "/C=XX/O=Grid/CN=a"), PIL_OK);
		assert_int_equal(ask(text, "/C=XX/O=Grids/CN=a"),
		    PIL_SIGNING_POLICY_VIOLATION);
	}
}

static void
test_stars_stand_for_any_text(void **state)
{
	static const char text[] =
	    ENTRY "cond_subjects globus '\"/O=*Grid/*/CN=a*b\" \"/O=one\"'\n";

	(void)state;
	assert_int_equal(ask(text, "/O=My Grid/OU=x/OU=y/CN=axxb"), PIL_OK);
	assert_int_equal(ask(text, "/O=Grid/OU=x/CN=ab"), PIL_OK);
	assert_int_equal(ask(text, "/O=one"), PIL_OK);
	assert_int_equal(ask(text, "/O=one/CN=x"), PIL_SIGNING_POLICY_VIOLATION);
	assert_int_equal(ask(text, "/O=Grid/OU=x/CN=abc"),
	    PIL_SIGNING_POLICY_VIOLATION);
	assert_int_equal(ask(text, ""), PIL_SIGNING_POLICY_VIOLATION);
}

static void
test_names_with_blanks_are_one_pattern(void **state)
{
	static const char text[] =
	    ENTRY "cond_subjects globus '/O=My Grid/CN=a b /O=Other/*'\n";

	(void)state;
	assert_int_equal(ask(text, "/O=My Grid/CN=a b"), PIL_OK);
	assert_int_equal(ask(text, "/O=Other/CN=x"), PIL_OK);
	assert_int_equal(ask(text, "/O=My"), PIL_SIGNING_POLICY_VIOLATION);
}

static void
test_only_the_entry_of_the_issuer_counts(void **state)
{
	static const char text[] =
	    "access_id_CA X509 '/CN=Other'\npos_rights globus CA:sign\n"
	    "cond_subjects globus '\"/O=Other/*\"'\n"
	    "# " CA "\n\n"
	    "access_id_CA  X509\t\"" CA "\"  # ours\r\n"
	    "pos_rights\tglobus  CA:sign\r\n"
	    "cond_subjects  globus  '\"/O=Ours/*\"'\r\n";

	(void)state;
	assert_int_equal(ask(text, "/O=Ours/CN=x"), PIL_OK);
	assert_int_equal(ask(text, "/O=Other/CN=x"),
	    PIL_SIGNING_POLICY_VIOLATION);
}

static void
test_the_right_to_sign_is_needed(void **state)
{
	(void)state;
	assert_int_equal(ask("access_id_CA X509 '" CA "'\n"
	    "cond_subjects globus '/O=x/*'\n", "/O=x/CN=y"),
	    PIL_SIGNING_POLICY_VIOLATION);
	assert_int_equal(ask("access_id_CA X509 '" CA "'\n"
	    "pos_rights globus CA:other\n"
	    "cond_subjects globus '/O=x/*'\n", "/O=x/CN=y"),
	    PIL_SIGNING_POLICY_VIOLATION);
	assert_int_equal(ask("", "/O=x"), PIL_SIGNING_POLICY_VIOLATION);
}

static void
test_old_spellings_are_the_same_names(void **state)
{
	static const char text[] = ENTRY
	    "cond_subjects globus '\"/O=x/Email=*\" \"/O=x/USERID=u\"'\n";

	(void)state;
	assert_int_equal(ask(text, "/O=x/emailAddress=a@b"), PIL_OK);
	assert_int_equal(ask(text, "/O=x/UID=u"), PIL_OK);
}

static void
test_malformed_files(void **state)
{
	static const char *const texts[] = {
		"access_id_CA\n", "access_id_CA X509\n",
		"access_id_CA X509 '/CN=x\n", "access_id_CA X509 '/CN=x' more\n",
		"access_id_CA PGP '/CN=x'\n", "pos_rights apache CA:sign\n",
		"unknown globus x\n", ENTRY "cond_subjects globus '\"/O=x'\n",
		ENTRY "cond_subjects globus '\"\"'\n",
		"\"\" X509 x\n",
	};
	char longer[6000];
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		assert_int_equal(ask(texts[i], "/O=x"),
		    PIL_SIGNING_POLICY_MALFORMED);
	memset(longer, 'x', sizeof(longer));
	longer[sizeof(longer) - 1] = '\0';
	assert_int_equal(ask(longer, "/O=x"), PIL_SIGNING_POLICY_MALFORMED);
	assert_int_equal(pil_signing_allows("a\0b c d\n", 8, CA, "/O=x"),
	    PIL_SIGNING_POLICY_MALFORMED);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_both_styles_of_quotes_and_none),
		cmocka_unit_test(test_stars_stand_for_any_text),
		cmocka_unit_test(test_names_with_blanks_are_one_pattern),
		cmocka_unit_test(test_only_the_entry_of_the_issuer_counts),
		cmocka_unit_test(test_the_right_to_sign_is_needed),
		cmocka_unit_test(test_old_spellings_are_the_same_names),
		cmocka_unit_test(test_malformed_files),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
