/*
 * Names in slash form: one text for one name, or none.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <openssl/objects.h>
#include <openssl/x509.h>
#include <openssl/x509_vfy.h>

#include "verify/core.h"

static X509_NAME *
begin(void)
{
	X509_NAME *name = X509_NAME_new();

	assert_non_null(name);
	return name;
}

static void
add(X509_NAME *name, const char *type, int string, const void *value, int len,
    int set)
{
	assert_int_equal(X509_NAME_add_entry_by_txt(name, type, string, value,
	    len, -1, set), 1);
}

static int
is(const char *type, int string, const void *value, int len, const char *text)
{
	X509_NAME *name = begin();
	char out[PIL_DN_SIZE];
	int good;

	add(name, type, string, value, len, 0);
	good = pil_name_slash(name, out, sizeof(out));
	X509_NAME_free(name);
	return text == NULL ? !good : good && strcmp(out, text) == 0;
}

static void
test_types_have_short_names_or_numbers(void **state)
{
	(void)state;
	assert_true(is("CN", V_ASN1_UTF8STRING, "a", 1, "/CN=a"));
	assert_true(is("DC", V_ASN1_IA5STRING, "org", 3, "/DC=org"));
	assert_true(is("emailAddress", V_ASN1_IA5STRING, "a@b", 3,
	    "/emailAddress=a@b"));
	assert_true(is("1.2.840.1", V_ASN1_UTF8STRING, "a", 1,
	    "/1.2.840.1=a"));
}

static void
test_a_name_taught_at_run_time_changes_nothing(void **state)
{
	(void)state;
	assert_int_not_equal(OBJ_create("1.2.3.4.5", "CN2", "fake"), NID_undef);
	assert_true(is("1.2.3.4.5", V_ASN1_UTF8STRING, "a", 1,
	    "/1.2.3.4.5=a"));
}

static void
test_values_that_could_mislead_are_refused(void **state)
{
	(void)state;
	assert_true(is("CN", V_ASN1_UTF8STRING, "a/CN=b", 6, NULL));
	assert_true(is("CN", V_ASN1_UTF8STRING, "/1.2=b", 6, NULL));
	assert_true(is("CN", V_ASN1_UTF8STRING, "a\\b", 3, NULL));
	assert_true(is("CN", V_ASN1_UTF8STRING, "a\0b", 3, NULL));
	assert_true(is("CN", V_ASN1_UTF8STRING, "a\nb", 3, NULL));
	assert_true(is("CN", V_ASN1_UTF8STRING, "a\x7f", 2, NULL));
	assert_true(is("CN", V_ASN1_BMPSTRING, "\0a", 2, NULL));
	assert_true(is("CN", V_ASN1_UTF8STRING, "host/a.b", 8, "/CN=host/a.b"));
	assert_true(is("CN", V_ASN1_UTF8STRING, "a/ =b", 5, "/CN=a/ =b"));
	assert_true(is("CN", V_ASN1_UTF8STRING, "/=b", 3, "/CN=/=b"));
}

static void
test_bytes_that_are_not_ascii_are_escaped(void **state)
{
	(void)state;
	assert_true(is("CN", V_ASN1_UTF8STRING, "\xc3\xa9", 2, "/CN=\\xC3\\xA9"));
	assert_true(is("CN", V_ASN1_UTF8STRING, "\xf0\x9f\x90\xa7", 4,
	    "/CN=\\xF0\\x9F\\x90\\xA7"));
	assert_true(is("CN", V_ASN1_T61STRING, "\xe9", 1, "/CN=\\xE9"));
}

static void
test_an_rdn_of_two_and_a_name_of_none_have_no_text(void **state)
{
	X509_NAME *name = begin();
	char out[PIL_DN_SIZE], show[PIL_SHOW_SIZE];

	(void)state;
	assert_false(pil_name_slash(name, out, sizeof(out)));
	add(name, "O", V_ASN1_UTF8STRING, "x", 1, 0);
	assert_true(pil_name_slash(name, out, sizeof(out)));
	add(name, "CN", V_ASN1_UTF8STRING, "y", 1, -1);
	assert_false(pil_name_slash(name, out, sizeof(out)));
	pil_name_show(name, show);
	assert_string_equal(show, "(a name that has no text)");
	X509_NAME_free(name);
}

static void
test_a_name_fits_or_is_refused(void **state)
{
	char out[16], long_value[64], show[PIL_SHOW_SIZE];
	X509_NAME *name = begin();
	int i;

	(void)state;
	add(name, "CN", V_ASN1_UTF8STRING, "12345678901", 11, 0);
	assert_true(pil_name_slash(name, out, sizeof(out)));
	assert_int_equal(strlen(out), 15);
	assert_false(pil_name_slash(name, out, sizeof(out) - 1));
	memset(long_value, 'x', sizeof(long_value));
	for (i = 0; i < 4; i++)
		add(name, "OU", V_ASN1_UTF8STRING, long_value, 64, 0);
	pil_name_show(name, show);
	assert_int_equal(strlen(show), PIL_SHOW_SIZE - 1);
	assert_int_equal(strncmp(show, "...", 3), 0);
	X509_NAME_free(name);
}

static void
test_every_verdict_of_openssl_has_a_reason(void **state)
{
	int error;

	(void)state;
	for (error = 1; error <= X509_V_ERR_EC_KEY_EXPLICIT_PARAMS + 20; error++) {
		enum pil_reason reason = pil_openssl_reason(error);

		assert_in_range(reason, PIL_PROXY_MALFORMED, PIL_VERIFY_INTERNAL);
		assert_string_not_equal(pil_reason_name(reason), "UNKNOWN");
	}
	assert_int_equal(pil_openssl_reason(X509_V_ERR_CERT_REVOKED),
	    PIL_CERTIFICATE_REVOKED);
	assert_int_equal(pil_openssl_reason(X509_V_ERR_CRL_HAS_EXPIRED),
	    PIL_CRL_EXPIRED);
	assert_int_equal(pil_openssl_reason(X509_V_ERR_INVALID_CA),
	    PIL_CA_INVALID);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_types_have_short_names_or_numbers),
		cmocka_unit_test(test_a_name_taught_at_run_time_changes_nothing),
		cmocka_unit_test(test_values_that_could_mislead_are_refused),
		cmocka_unit_test(test_bytes_that_are_not_ascii_are_escaped),
		cmocka_unit_test(
		    test_an_rdn_of_two_and_a_name_of_none_have_no_text),
		cmocka_unit_test(test_a_name_fits_or_is_refused),
		cmocka_unit_test(test_every_verdict_of_openssl_has_a_reason),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
