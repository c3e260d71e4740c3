/*
 * The texts of attribute certificates and .lsc files, and PEM.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <openssl/crypto.h>

#include "verify/voms.h"

static int
fqan(const char *text, char out[PIL_NAME_SIZE])
{
	out[0] = '\0';
	return pil_voms_fqan((const unsigned char *)text, strlen(text), "vo.x",
	    out);
}

static void
test_fqans_are_normalised(void **state)
{
	static const char *const pairs[][2] = {
		{ "/vo.x", "/vo.x" },
		{ "/vo.x/Role=NULL/Capability=NULL", "/vo.x" },
		{ "/vo.x/Role=NULL", "/vo.x" },
		{ "/vo.x/Capability=any", "/vo.x" },
		{ "/vo.x/a/b-c/Role=r_1/Capability=NULL", "/vo.x/a/b-c/Role=r_1" },
		{ "/vo.x/Role=NULLs", "/vo.x/Role=NULLs" },
		{ "/vo.x/NULL", "/vo.x/NULL" },
	};
	char out[PIL_NAME_SIZE];
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
		assert_true(fqan(pairs[i][0], out));
		assert_string_equal(out, pairs[i][1]);
	}
}

static void
test_what_is_no_fqan_is_refused(void **state)
{
	static const char *const bad[] = {
		"", "/", "vo.x", "/vo", "/vo.xy", "/vo.x/", "/vo.x//a", "//vo.x",
		"/vo.x/Role=", "/vo.x/Role=a/Role=b", "/vo.x/Role=a/b",
		"/vo.x/Capability=a/Role=b", "/vo.x/Capability=a/Capability=b",
		"/Role=a", "/vo.x/a b", "/vo.x/a=b", "/vo.x/.", "/vo.x/..",
		"/vo.x/a\n", "/vo.x/\xc3\xa9",
	};
	char out[PIL_NAME_SIZE], longer[300];
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_false(fqan(bad[i], out));
	(void)snprintf(longer, sizeof(longer), "/vo.x/%0*d", 249, 0);
	assert_int_equal(strlen(longer), 255);
	assert_true(fqan(longer, out));
	(void)snprintf(longer, sizeof(longer), "/vo.x/%0*d", 250, 0);
	assert_false(fqan(longer, out));
}

static int
uri(const char *text, char vo[PIL_NAME_SIZE], char host[PIL_NAME_SIZE])
{
	return pil_voms_uri((const unsigned char *)text, strlen(text), vo,
	    host);
}

static void
test_a_server_is_vo_host_and_port(void **state)
{
	static const char *const bad[] = {
		"", "vo", "vo://", "vo://h", "vo://h:", "vo://h:x", "vo://h:0",
		"vo://h:65536", "vo://h:123456", "vo://h:1 ", "vo://h:1/",
		"://h:1", "/vo://h:1", "../vo://h:1", "..://h:1", ".x://h:1",
		"vo://.h:1", "vo://-h:1", "vo://h/x:1", "vo://h_x:1", "vo:/h:1",
	};
	char vo[PIL_NAME_SIZE], host[PIL_NAME_SIZE];
	size_t i;

	(void)state;
	assert_true(uri("vo.x-1://h-2.example.org:65535", vo, host));
	assert_string_equal(vo, "vo.x-1");
	assert_string_equal(host, "h-2.example.org");
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_false(uri(bad[i], vo, host));
}

static int
lsc(const char *text)
{
	static const char *const names[] = {
		"/O=x/CN=h", "/O=x/CN=CA", "/O=x/CN=CA", "/O=x/CN=CA"
	};

	return pil_lsc_match(text, strlen(text), names, 4);
}

static void
test_an_lsc_file_is_all_the_names_in_order(void **state)
{
	static const char full[] =
	    "/O=x/CN=h\n/O=x/CN=CA\n/O=x/CN=CA\n/O=x/CN=CA\n";
	char text[512];

	(void)state;
	assert_int_equal(lsc(full), 1);
	assert_int_equal(lsc("/O=x/CN=h\n/O=x/CN=CA\n"), 0);
	assert_int_equal(lsc("/O=x/CN=CA\n/O=x/CN=h\n/O=x/CN=CA\n/O=x/CN=CA"),
	    0);
	(void)snprintf(text, sizeof(text), "%s/O=x\n/O=x\n", full);
	assert_int_equal(lsc(text), 0);
	(void)snprintf(text, sizeof(text),
	    "/O=y\n/O=y\n------NEXT CHAIN------\n%s", full);
	assert_int_equal(lsc(text), 1);
	assert_int_equal(lsc("/O=x/CN=h\n"), -1);
	assert_int_equal(lsc("nonsense\n"), -1);
	assert_int_equal(lsc(""), -1);
	assert_int_equal(lsc("------ NEXT CHAIN ------\n"), -1);
}

static int
pem(const char *text, size_t len, struct pil_block *block)
{
	struct pil_pem reader = { text, text + len };

	return pil_pem_next(&reader, block);
}

static void
test_pem_is_read_strictly(void **state)
{
	static const struct {
		const char	*body;
		int		 result;
	} cases[] = {
		{ "QUJD\n", 1 }, { "QUI=\n", 1 }, { "QQ==\n", 1 },
		{ "QUJDQUJD\nQUJD\n", 1 }, { "QUJD \t\r\n", 1 },
		{ "", -1 }, { "\nQUJD\n", -1 }, { "QUJD\n\n", -1 },
		{ "QUJ\n", -1 }, { "QUJ=D\n", -1 }, { "QQ=\n", -1 },
		{ "Q===\n", -1 }, { "====\n", -1 }, { "QR==\n", -1 },
		{ "QUJ=\n", -1 }, { "QQ==\nQUJD\n", -1 }, { "QQ==QUJD\n", -1 },
		{ "QU-D\n", -1 }, { " QUJD\n", -1 }, { "A: b\n\nQUJD\n", -1 },
	};
	char text[256];
	struct pil_block block;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		(void)snprintf(text, sizeof(text), "text\n-----BEGIN X Y-----\n"
		    "%s-----END X Y-----\n", cases[i].body);
		assert_int_equal(pem(text, strlen(text), &block),
		    cases[i].result);
		OPENSSL_free(block.der);
	}
}

static void
test_pem_has_64_characters_and_no_others(void **state)
{
	static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	    "abcdefghijklmnopqrstuvwxyz0123456789+/";
	char text[] = "-----BEGIN X-----\nAAA.\n-----END X-----\n";
	char *place = strchr(text, '.');
	struct pil_block block;
	int c;

	(void)state;
	for (c = 1; c < 256; c++) {
		const char *found = strchr(alphabet, c);

		/* A pad and what ends a line have their own rules. */
		if (c == '=' || c == ' ' || c == '\t' || c == '\r' ||
		    c == '\n')
			continue;
		*place = (char)c;
		assert_int_equal(pem(text, sizeof(text) - 1, &block),
		    found != NULL ? 1 : -1);
		if (found != NULL)
			assert_int_equal(block.der[2], found - alphabet);
		OPENSSL_free(block.der);
	}
}

static void
test_pem_frames_are_whole(void **state)
{
	static const char *const bad[] = {
		"-----BEGIN X-----\nQUJD\n", "-----BEGIN X-----",
		"-----BEGIN X-----\nQUJD\n-----END Y-----\n",
		"-----BEGIN X----\nQUJD\n-----END X-----\n",
		"-----BEGIN x-----\nQUJD\n-----END x-----\n",
		"-----BEGIN -----\nQUJD\n-----END -----\n",
		"-----END X-----\n", "-----\n",
		"-----BEGIN X-----\n-----BEGIN X-----\nQUJD\n-----END X-----\n",
	};
	struct pil_block block;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(pem(bad[i], strlen(bad[i]), &block), -1);
	assert_int_equal(pem("no block\n", 9, &block), 0);
	assert_int_equal(pem("no\0block\n", 9, &block), -1);
	assert_int_equal(pem("", 0, &block), 0);
}

static void
test_encrypted_keys_are_marked(void **state)
{
	static const char text[] = "-----BEGIN RSA PRIVATE KEY-----\n"
	    "Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nQUJD\n"
	    "-----END RSA PRIVATE KEY-----\n";
	struct pil_block block;

	(void)state;
	assert_int_equal(pem(text, sizeof(text) - 1, &block), 1);
	assert_int_equal(block.encrypted, 1);
	assert_int_equal(block.len, 3);
	OPENSSL_free(block.der);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fqans_are_normalised),
		cmocka_unit_test(test_what_is_no_fqan_is_refused),
		cmocka_unit_test(test_a_server_is_vo_host_and_port),
		cmocka_unit_test(test_an_lsc_file_is_all_the_names_in_order),
		cmocka_unit_test(test_pem_is_read_strictly),
		cmocka_unit_test(test_pem_has_64_characters_and_no_others),
		cmocka_unit_test(test_pem_frames_are_whole),
		cmocka_unit_test(test_encrypted_keys_are_marked),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
