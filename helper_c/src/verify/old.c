/*
 * Proxies older than RFC 3820, of GT2: a certificate whose subject is its
 * issuer's and one more CN, "proxy" or "limited proxy". OpenSSL knows nothing
 * of them, so it builds the chain from the end entity, and the signatures below
 * are verified here. Names, limits and key usage are pil_check_proxies()'s.
 */
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include "verify/core.h"

/* Proxies come first, and all are of one kind. */
int
pil_is_old_chain(const struct pil_verify *v)
{
	return v->eec > 0 && X509_get_ext_by_NID(sk_X509_value(v->certs, 0),
	    NID_proxyCertInfo, -1) < 0;
}

static enum pil_reason
check_one(struct pil_verify *v, int index)
{
	X509 *x = sk_X509_value(v->certs, index);
	X509 *issuer = sk_X509_value(v->certs, index + 1);
	EVP_PKEY *key = X509_get0_pubkey(issuer);
	char show[PIL_SHOW_SIZE];

	pil_name_show(X509_get_subject_name(x), show);
	if (key == NULL || X509_verify(x, key) != 1)
		return pil_deny(v, PIL_CHAIN_SIGNATURE,
		    "the certificate after %s did not sign it", show);
	if (X509_check_purpose(x, X509_PURPOSE_SSL_CLIENT, 0) != 1)
		return pil_deny(v, PIL_PROXY_KEY_USAGE,
		    "%s is not for clients by its extensions", show);
	return PIL_OK;
}

static enum pil_reason
put_first(struct pil_verify *v, X509 *x)
{
	if (X509_up_ref(x) != 1)
		return pil_deny(v, PIL_VERIFY_INTERNAL, "out of memory");
	if (sk_X509_unshift(v->chain, x) > 0)
		return PIL_OK;
	X509_free(x);
	return pil_deny(v, PIL_VERIFY_INTERNAL, "out of memory");
}

enum pil_reason
pil_build_old_chain(struct pil_verify *v)
{
	STACK_OF(X509) *above = sk_X509_new_null();
	enum pil_reason reason = PIL_OK;
	int i;

	for (i = v->eec; above != NULL && i < sk_X509_num(v->certs); i++)
		if (sk_X509_push(above, sk_X509_value(v->certs, i)) <= 0)
			break;
	if (above == NULL || i < sk_X509_num(v->certs))
		reason = pil_deny(v, PIL_VERIFY_INTERNAL, "out of memory");
	else
		reason = pil_build_chain(v, above, PIL_USE_CLIENT, &v->chain);
	sk_X509_free(above);
	for (i = v->eec - 1; i >= 0 && reason == PIL_OK; i--)
		if ((reason = check_one(v, i)) == PIL_OK)
			reason = put_first(v, sk_X509_value(v->certs, i));
	return reason;
}
