/*
 * What the verifier's OpenSSL can do, and what it cannot.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <openssl/decoder.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>

#include "verify/core.h"

static void
test_the_digests_of_signatures_are_known(void **state)
{
	static const char *const names[] = {
		"MD5", "RIPEMD160", "SHA1", "SHA224", "SHA256", "SHA384",
		"SHA512", "SHA512-224", "SHA512-256", "SHA3-224", "SHA3-256",
		"SHA3-384", "SHA3-512",
	};
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		EVP_MD *digest = EVP_MD_fetch(pil_library(), names[i], NULL);

		if (digest == NULL)
			fail_msg("%s is not known", names[i]);
		EVP_MD_free(digest);
	}
}

static void
test_keys_are_rsa_and_ec_alone(void **state)
{
	static const char *const names[] = {
		"RSA-PSS", "DSA", "DH", "DHX", "X25519", "X448", "ED25519",
		"ED448", "SM2", "HMAC", "HKDF",
	};
	EVP_KEYMGMT *rsa = EVP_KEYMGMT_fetch(pil_library(), "RSA", NULL);
	EVP_KEYMGMT *ec = EVP_KEYMGMT_fetch(pil_library(), "EC", NULL);
	size_t i;

	(void)state;
	assert_non_null(rsa);
	assert_non_null(ec);
	EVP_KEYMGMT_free(rsa);
	EVP_KEYMGMT_free(ec);
	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (EVP_KEYMGMT_fetch(pil_library(), names[i], NULL) != NULL)
			fail_msg("keys of the kind %s are read", names[i]);
}

static void
count(OSSL_DECODER *decoder, void *arg)
{
	int *found = arg;

	assert_true(OSSL_DECODER_is_a(decoder, "RSA") ||
	    OSSL_DECODER_is_a(decoder, "EC"));
	(*found)++;
}

static void
test_keys_are_read_from_der_in_three_forms(void **state)
{
	int found = 0;

	(void)state;
	OSSL_DECODER_do_all_provided(pil_library(), count, &found);
	assert_int_equal(found, 6);
}

static void
test_nothing_is_enciphered_derived_or_drawn(void **state)
{
	OSSL_LIB_CTX *library = pil_library();

	(void)state;
	assert_null(EVP_CIPHER_fetch(library, "AES-256-CBC", NULL));
	assert_null(EVP_MAC_fetch(library, "HMAC", NULL));
	assert_null(EVP_KDF_fetch(library, "HKDF", NULL));
	assert_null(EVP_RAND_fetch(library, "CTR-DRBG", NULL));
	assert_null(EVP_KEYEXCH_fetch(library, "ECDH", NULL));
	assert_null(EVP_ASYM_CIPHER_fetch(library, "RSA", NULL));
	assert_null(EVP_SIGNATURE_fetch(library, "ED25519", NULL));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_digests_of_signatures_are_known),
		cmocka_unit_test(test_keys_are_rsa_and_ec_alone),
		cmocka_unit_test(test_keys_are_read_from_der_in_three_forms),
		cmocka_unit_test(test_nothing_is_enciphered_derived_or_drawn),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
