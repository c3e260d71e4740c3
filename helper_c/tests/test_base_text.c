/*
 * One-line texts, JSON lines, configuration text, SHA-256.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/ini.h"
#include "base/sha256.h"
#include "base/text.h"

static void
sha256_agrees_with_fips_180(void **state)
{
	static const struct {
		const char	*data, *digest;
	} vectors[] = {
		{ "", "e3b0c44298fc1c149afbf4c8996fb924"
		    "27ae41e4649b934ca495991b7852b855" },
		{ "abc", "ba7816bf8f01cfea414140de5dae2223"
		    "b00361a396177a9cb410ff61f20015ad" },
		{ "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
		    "248d6a61d20638b8e5c026930c3e6039"
		    "a33ce45964ff2167f6ecedd419db06c1" },
	};
	static char million[1000000];
	uint8_t digest[32];
	char hex[65];
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++) {
		pil_sha256(vectors[i].data, strlen(vectors[i].data), digest);
		pil_hex(digest, sizeof(digest), hex);
		assert_string_equal(hex, vectors[i].digest);
	}
	memset(million, 'a', sizeof(million));
	pil_sha256(million, sizeof(million), digest);
	pil_hex(digest, sizeof(digest), hex);
	assert_string_equal(hex, "cdc76e5c9914fb9281a1c7e284d73e67"
	    "f1809a48a497200e046d39ccc7112cd0");
}

static void
json_has_every_byte_escaped(void **state)
{
	struct pil_json json;
	gid_t ids[] = { 1, 4294967293u };

	(void)state;
	pil_json_open(&json);
	pil_json_string(&json, "a", "\"\\\n\x1b\x7f\xc3\xa9/");
	pil_json_int(&json, "b", -1);
	pil_json_seconds(&json, "c", 1250000);
	pil_json_seconds(&json, "n", -1);
	pil_json_ids(&json, "d", ids, 2);
	pil_json_bool(&json, "e", 0);
	json.buf[pil_json_close(&json)] = '\0';
	assert_string_equal(json.buf, "{\"a\":\"\\\"\\\\\\u000a\\u001b\\u007f"
	    "\\u00c3\\u00a9/\",\"b\":-1,\"c\":1.250000,\"n\":0.000000,"
	    "\"d\":[1,4294967293],\"e\":false}\n");
}

static void
json_that_is_too_long_is_cut_between_fields(void **state)
{
	char big[PIL_LINE_MAX];
	struct pil_json json;
	size_t len, n;

	(void)state;
	memset(big, '\n', sizeof(big));
	for (n = 0; n < sizeof(big); n += 37) {
		big[n] = '\0';
		pil_json_open(&json);
		pil_json_string(&json, "first", "x");
		pil_json_string(&json, "big", big);
		pil_json_string(&json, "last", "y");
		len = pil_json_close(&json);
		assert_true(len <= PIL_LINE_MAX);
		json.buf[len - 1] = '\0';
		assert_int_equal(json.buf[len - 2], '}');
		assert_null(strchr(json.buf, '\n'));
		assert_true((strstr(json.buf, "\"big\"") == NULL) ==
		    (strstr(json.buf, ",\"cut\":true}") != NULL));
		big[n] = '\n';
	}
}

struct seen {
	char	text[512];
};

static const char *
remember(void *arg, char *section, char *key, char *value)
{
	struct seen *seen = arg;
	size_t at = strlen(seen->text);

	if (key != NULL && strcmp(key, "bad") == 0)
		return "bad key";
	(void)snprintf(seen->text + at, sizeof(seen->text) - at, "%s|%s|%s;",
	    section, key ? key : "", value ? value : "");
	return NULL;
}

static int
parse(const char *text, size_t len, struct seen *seen, char *detail)
{
	static char copy[4096];

	memset(seen, 0, sizeof(*seen));
	memcpy(copy, text, len);
	copy[len] = '\0';
	return pil_ini_parse(copy, len, remember, seen, detail);
}

static void
configuration_text_is_read_strictly(void **state)
{
	static const char good[] = "# comment\n\n[a]\nk = v w # rest\n"
	    "\tk2=#x\n[b c]\nk=";
	static const char *const wrong[] = { "k = v\n", "[a\n", "[]\n",
	    "[a]\nword\n", "[a]\nK = v\n", "[a]\n = v\n", "[a]\nk v = w\n",
	    "[a]\nbad = 1\n", "[a]\nk = \x01\n", "[a]\nk = v\r\n" };
	char detail[PIL_DETAIL_SIZE];
	struct seen seen;
	size_t i;

	(void)state;
	assert_int_equal(parse(good, strlen(good), &seen, detail), 0);
	assert_string_equal(seen.text, "a||;a|k|v w;a|k2|#x;b c||;b c|k|;");
	for (i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		assert_int_equal(parse(wrong[i], strlen(wrong[i]), &seen,
		    detail), -1);
	/* A NUL byte must not hide the rest of a line. */
	assert_int_equal(parse("[a]\nk\0 = v\n", 11, &seen, detail), -1);
	assert_string_equal(detail, "line 2: control character");
}

static void
details_are_one_printable_line(void **state)
{
	char detail[PIL_DETAIL_SIZE], big[1000];

	(void)state;
	memset(big, '\n', sizeof(big) - 1);
	big[sizeof(big) - 1] = '\0';
	pil_detail(detail, "%s", big);
	assert_int_equal(strlen(detail), PIL_DETAIL_SIZE - 1);
	assert_int_equal(strspn(detail, "?"), PIL_DETAIL_SIZE - 1);
}

static void
one_byte_that_is_not_zero_is_seen_wherever_it_is(void **state)
{
	static unsigned char bytes[300];
	size_t size, i;

	(void)state;
	assert_true(pil_is_zero(bytes, 0));
	for (size = 1; size <= sizeof(bytes); size++) {
		assert_true(pil_is_zero(bytes, size));
		for (i = 0; i < size; i++) {
			bytes[i] = (unsigned char)(i % 255 + 1);
			assert_false(pil_is_zero(bytes, size));
			bytes[i] = 0;
		}
	}
	/* What stands behind is not looked at. */
	bytes[100] = 1;
	assert_true(pil_is_zero(bytes, 100));
	bytes[100] = 0;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sha256_agrees_with_fips_180),
		cmocka_unit_test(json_has_every_byte_escaped),
		cmocka_unit_test(json_that_is_too_long_is_cut_between_fields),
		cmocka_unit_test(configuration_text_is_read_strictly),
		cmocka_unit_test(details_are_one_printable_line),
		cmocka_unit_test(
		    one_byte_that_is_not_zero_is_seen_wherever_it_is),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
