/*
 * No byte of the verifier's answer is believed that does not fit (C10).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "pilotage/record.h"

#define NOW	1800000000

static const struct pil_request request = { .magic = PIL_RECORD_MAGIC,
    .version = PIL_RECORD_VERSION, .nonce = { 1, 2, 3 }, .skew = 300,
    .policy = PIL_P_REQUIRE_PROXY | PIL_P_REQUIRE_KEY };
static const uint8_t digest[32] = { 9, 8, 7 };

static struct pil_record
good(void)
{
	static struct pil_record r;

	memset(&r, 0, sizeof(r));
	memcpy(r.magic, PIL_RECORD_MAGIC, 8);
	memcpy(r.tail, PIL_RECORD_MAGIC, 8);
	r.version = PIL_RECORD_VERSION;
	r.size = sizeof(r);
	memcpy(r.nonce, request.nonce, sizeof(r.nonce));
	memcpy(r.digest, digest, sizeof(r.digest));
	r.who.flags = PIL_F_PROXY | PIL_F_KEY | PIL_F_VOMS;
	r.who.depth = 1;
	r.who.fqan_count = 2;
	r.who.not_before = NOW - 10;
	r.who.not_after = NOW + 1000;
	r.who.voms_not_after = NOW + 900;
	(void)strcpy(r.who.dn, "/O=Grid/CN=a");
	(void)strcpy(r.who.issuer, "/O=Grid/CN=CA");
	(void)strcpy(r.who.vo, "demo");
	(void)strcpy(r.who.fqan[0], "/demo/Role=x");
	(void)strcpy(r.who.fqan[1], "/demo");
	return r;
}

static int
believed(const struct pil_record *r)
{
	return pil_record_check(r, sizeof(*r), &request, digest, NOW) == PIL_OK;
}

static void
a_sound_record_is_believed(void **state)
{
	struct pil_record r = good();

	(void)state;
	assert_true(believed(&r));
}

/* Inside the string, or the byte that makes it one longer. */
static int
in_text(const char *at, const char *text, size_t size)
{
	return at >= text && at < text + size && at <= text + strlen(text);
}

/* Bytes whose other values mean another, but possible, owner. */
static int
is_free(const struct pil_record *r, const char *at)
{
	const struct pil_identity *who = &r->who;

#define IN(field)	(at >= (const char *)&who->field && \
			    at < (const char *)&who->field + \
			    sizeof(who->field))
	if (IN(dn) || IN(issuer) || IN(detail))
		return in_text(at, who->dn, sizeof(who->dn)) ||
		    in_text(at, who->issuer, sizeof(who->issuer)) ||
		    in_text(at, who->detail, sizeof(who->detail));
	if (IN(fqan))
		return in_text(at, who->fqan[0], PIL_NAME_SIZE) ||
		    in_text(at, who->fqan[1], PIL_NAME_SIZE);
	/* A time may be another one, a flag may be LIMITED. */
	return IN(leaf_key) || IN(eec) || IN(not_before) || IN(not_after) ||
	    IN(voms_not_after) || IN(flags) || IN(depth);
#undef IN
}

static void
every_other_bit_is_checked(void **state)
{
	struct pil_record r = good(), other;
	size_t i;
	int bit;

	(void)state;
	for (i = 0; i < sizeof(r); i++)
		for (bit = 0; bit < 8; bit++) {
			other = r;
			((unsigned char *)&other)[i] ^= (unsigned char)
			    (1u << bit);
			if (believed(&other) &&
			    !is_free(&r, (const char *)&r + i))
				fail_msg("byte %zu bit %d", i, bit);
		}
}

static void
only_one_length_is_right(void **state)
{
	struct pil_record r = good();

	(void)state;
	assert_int_equal(pil_record_check(&r, 0, &request, digest, NOW),
	    PIL_VERIFIER_RECORD);
	assert_int_equal(pil_record_check(&r, sizeof(r) - 1, &request, digest,
	    NOW), PIL_VERIFIER_RECORD);
	assert_int_equal(pil_record_check(&r, sizeof(r) + 1, &request, digest,
	    NOW), PIL_VERIFIER_RECORD);
}

static void
text_is_terminated_and_printable(void **state)
{
	struct pil_record r = good();

	(void)state;
	memset(r.who.dn, 'a', sizeof(r.who.dn));
	assert_false(believed(&r));
	r = good();
	(void)strcpy(r.who.dn, "/O=Grid/CN=a\n");
	assert_false(believed(&r));
	r = good();
	r.who.dn[500] = 'x';
	assert_false(believed(&r));
	r = good();
	r.who.fqan[200][3] = 'x';
	assert_false(believed(&r));
	r = good();
	(void)strcpy(r.who.fqan[1], "demo");
	assert_false(believed(&r));
	r = good();
	(void)strcpy(r.who.vo, "dem");
	assert_false(believed(&r));
	r = good();
	r.who.dn[0] = '\0';
	assert_false(believed(&r));
}

static void
counts_flags_and_times_are_possible(void **state)
{
	struct pil_record r = good();

	(void)state;
	r.who.fqan_count = PIL_FQAN_MAX + 1;
	assert_false(believed(&r));
	r = good();
	r.who.fqan_count = 1;
	assert_false(believed(&r));
	r = good();
	r.who.depth = PIL_DEPTH_MAX + 1;
	assert_false(believed(&r));
	r = good();
	r.who.flags &= ~PIL_F_KEY;
	assert_false(believed(&r));
	r = good();
	r.who.flags &= ~PIL_F_VOMS;
	assert_false(believed(&r));
	r = good();
	r.who.flags = PIL_F_KEY | PIL_F_VOMS;
	r.who.depth = 0;
	assert_false(believed(&r));
	r = good();
	r.who.flags |= 0x80000000u;
	assert_false(believed(&r));
	r = good();
	r.who.not_after = NOW - 300;
	assert_false(believed(&r));
	r = good();
	r.who.not_before = NOW + 301;
	assert_false(believed(&r));
	r = good();
	r.who.not_before = r.who.not_after;
	assert_false(believed(&r));
	r = good();
	r.who.voms_not_after = NOW - 300;
	assert_false(believed(&r));
}

static void
a_refusal_carries_a_reason_and_nothing_else(void **state)
{
	struct pil_record r = good();

	(void)state;
	r.who.reason = PIL_PROXY_EXPIRED;
	assert_false(believed(&r));
	memset(&r.who, 0, sizeof(r.who));
	r.who.reason = PIL_PROXY_EXPIRED;
	(void)strcpy(r.who.detail, "since yesterday");
	assert_true(believed(&r));
	r.who.reason = 299;
	assert_false(believed(&r));
	r.who.reason = -1;
	assert_false(believed(&r));
	r.who.reason = PIL_CALLER_NOT_ALLOWED;
	assert_false(believed(&r));
	r.who.reason = PIL_PROXY_EXPIRED;
	r.who.eec[31] = 1;
	assert_false(believed(&r));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_sound_record_is_believed),
		cmocka_unit_test(every_other_bit_is_checked),
		cmocka_unit_test(only_one_length_is_right),
		cmocka_unit_test(text_is_terminated_and_printable),
		cmocka_unit_test(counts_flags_and_times_are_possible),
		cmocka_unit_test(a_refusal_carries_a_reason_and_nothing_else),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
