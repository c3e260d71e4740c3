/*
 * Keys and signatures that are strong enough: RSA from 2048 bits or the NIST
 * curves by name, and SHA-2. The private key of the input, if one is there.
 */
#include <string.h>

#include <openssl/core_names.h>
#include <openssl/decoder.h>
#include <openssl/evp.h>
#include <openssl/x509.h>

#include "verify/core.h"

#define RSA_MIN	2048
#define RSA_MAX	8192	/* longer ones only cost time */

static int
good_rsa(const EVP_PKEY *key)
{
	BIGNUM *e = NULL;
	int bits = EVP_PKEY_get_bits(key), good;

	good = bits >= RSA_MIN && bits <= RSA_MAX &&
	    EVP_PKEY_get_bn_param(key, OSSL_PKEY_PARAM_RSA_E, &e) == 1 &&
	    BN_is_odd(e) && BN_num_bits(e) >= 2 && BN_num_bits(e) <= 64;
	BN_free(e);
	return good;
}

static int
good_curve(const EVP_PKEY *key)
{
	static const char *const curves[] = {
		"prime256v1", "secp384r1", "secp521r1"
	};
	char name[64];
	size_t i, len;
	int explicit_parameters = 1;

	/* Parameters written out are refused even when they spell a curve. */
	if (EVP_PKEY_get_int_param(key,
	    OSSL_PKEY_PARAM_EC_DECODED_FROM_EXPLICIT_PARAMS,
	    &explicit_parameters) != 1 || explicit_parameters != 0)
		return 0;
	if (EVP_PKEY_get_group_name(key, name, sizeof(name), &len) != 1)
		return 0;
	for (i = 0; i < sizeof(curves) / sizeof(curves[0]); i++)
		if (strcmp(name, curves[i]) == 0)
			return 1;
	return 0;
}

static int
good_key(X509 *x)
{
	const EVP_PKEY *key = X509_get0_pubkey(x);

	if (key == NULL)
		return 0;
	if (EVP_PKEY_is_a(key, "RSA"))
		return good_rsa(key);
	if (EVP_PKEY_is_a(key, "EC"))
		return good_curve(key);
	return 0;
}

static int
good_signature(X509 *x)
{
	int digest = NID_undef, kind = NID_undef;

	if (X509_get_signature_info(x, &digest, &kind, NULL, NULL) != 1)
		return 0;
	return digest == NID_sha256 || digest == NID_sha384 ||
	    digest == NID_sha512;
}

enum pil_reason
pil_weak_signature(struct pil_verify *v, const char *show)
{
	return pil_deny(v, PIL_SIGNATURE_WEAK,
	    "%s is not signed with SHA-256, SHA-384 or SHA-512", show);
}

/*
 * A trust anchor's signature on itself proves nothing and many are old, so it
 * is not judged; its key is.
 */
enum pil_reason
pil_check_strength(struct pil_verify *v, X509 *x, int is_anchor)
{
	char show[PIL_SHOW_SIZE];

	pil_name_show(X509_get_subject_name(x), show);
	if (!good_key(x))
		return pil_deny(v, PIL_KEY_TOO_WEAK,
		    "the key of %s is neither RSA of %d to %d bits nor on a "
		    "NIST curve", show, RSA_MIN, RSA_MAX);
	if (!is_anchor && !good_signature(x))
		return pil_weak_signature(v, show);
	return PIL_OK;
}

static int
no_passphrase(char *pass, size_t size, size_t *len, const OSSL_PARAM params[],
    void *arg)
{
	(void)pass;
	(void)size;
	(void)params;
	(void)arg;
	*len = 0;
	return 0;
}

static EVP_PKEY *
decode_key(const struct pil_key *key)
{
	const unsigned char *at = key->der;
	OSSL_DECODER_CTX *ctx;
	EVP_PKEY *out = NULL;
	size_t left = key->len;

	ctx = OSSL_DECODER_CTX_new_for_pkey(&out, "DER", key->structure,
	    key->type, EVP_PKEY_KEYPAIR, pil_library(), NULL);
	if (ctx == NULL)
		return NULL;
	/* Never a prompt, whatever is inside. */
	if (OSSL_DECODER_CTX_set_passphrase_cb(ctx, no_passphrase, NULL) != 1 ||
	    OSSL_DECODER_from_data(ctx, &at, &left) != 1 || left != 0) {
		EVP_PKEY_free(out);
		out = NULL;
	}
	OSSL_DECODER_CTX_free(ctx);
	return out;
}

/* Set PIL_F_KEY when the leaf's key is there; an error only by policy. */
enum pil_reason
pil_check_key(struct pil_verify *v)
{
	const EVP_PKEY *leaf = X509_get0_pubkey(sk_X509_value(v->certs, 0));
	EVP_PKEY *key;
	int same;

	if (v->key.count == 1 && !v->key.encrypted) {
		key = decode_key(&v->key);
		same = key != NULL && EVP_PKEY_eq(leaf, key) == 1;
		EVP_PKEY_free(key);
		if (same) {
			v->who->flags |= PIL_F_KEY;
			return PIL_OK;
		}
	}
	if ((v->opt->policy & PIL_P_REQUIRE_KEY) == 0)
		return PIL_OK;
	if (v->key.count == 0)
		return pil_deny(v, PIL_KEY_MISSING,
		    "there is no private key in the input");
	if (v->key.encrypted)
		return pil_deny(v, PIL_KEY_MISSING,
		    "the private key is encrypted; nobody is asked for its "
		    "pass phrase");
	return pil_deny(v, PIL_KEY_MISMATCH,
	    "the private key is not that of the first certificate");
}
