/*
 * From the first certificate to a trust anchor, by OpenSSL. Anchors come from
 * the CA directory only; what came with the input is never trusted. The input
 * must be exactly the beginning of the chain that was verified.
 */
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include "verify/core.h"

#define DEPTH_MAX	(PIL_DEPTH_MAX + 8)

static int
prepare(X509_STORE_CTX *ctx, X509_STORE *store, STACK_OF(X509) *certs,
    STACK_OF(X509) *rest, enum pil_use use)
{
	X509_VERIFY_PARAM *param;
	unsigned long flags = X509_V_FLAG_NO_CHECK_TIME;
	int i;

	/* Real proxies lack what "strict" asks for; host certificates do not. */
	flags |= use == PIL_USE_CLIENT ? X509_V_FLAG_ALLOW_PROXY_CERTS :
	    X509_V_FLAG_X509_STRICT;
	for (i = 1; i < sk_X509_num(certs); i++)
		if (sk_X509_push(rest, sk_X509_value(certs, i)) <= 0)
			return 0;
	if (X509_STORE_CTX_init(ctx, store, sk_X509_value(certs, 0), rest) != 1)
		return 0;
	if (use == PIL_USE_CLIENT &&
	    X509_STORE_CTX_set_purpose(ctx, X509_PURPOSE_SSL_CLIENT) != 1)
		return 0;
	param = X509_STORE_CTX_get0_param(ctx);
	X509_VERIFY_PARAM_set_auth_level(param, 2);
	X509_VERIFY_PARAM_set_depth(param, DEPTH_MAX);
	return X509_VERIFY_PARAM_set_flags(param, flags) == 1;
}

static enum pil_reason
refused(struct pil_verify *v, X509_STORE_CTX *ctx)
{
	int error = X509_STORE_CTX_get_error(ctx);
	X509 *x = X509_STORE_CTX_get_current_cert(ctx);
	enum pil_reason reason = pil_openssl_reason(error);
	char show[PIL_SHOW_SIZE];

	if (x == NULL)
		return pil_deny(v, reason, "%s",
		    X509_verify_cert_error_string(error));
	pil_name_show(reason == PIL_CHAIN_UNKNOWN_CA ?
	    X509_get_issuer_name(x) : X509_get_subject_name(x), show);
	if (reason == PIL_CHAIN_UNKNOWN_CA)
		return pil_deny(v, reason,
		    "the issuer %s is not trusted here: %s", show,
		    X509_verify_cert_error_string(error));
	/* One sentence, whether OpenSSL knows the digest or has no name for it. */
	if (reason == PIL_SIGNATURE_WEAK)
		return pil_weak_signature(v, show);
	return pil_deny(v, reason, "%s: %s", show,
	    X509_verify_cert_error_string(error));
}

/*
 * OpenSSL passes over an issuer that may not sign and then says only that it
 * found none. When one by that name is there, say what is wrong with it.
 */
static enum pil_reason
unusable_issuer(struct pil_verify *v, X509_STORE_CTX *ctx,
    STACK_OF(X509) *certs)
{
	X509 *x = X509_STORE_CTX_get_current_cert(ctx);
	STACK_OF(X509) *all = X509_STORE_get1_all_certs(v->store);
	enum pil_reason reason = PIL_OK;
	char show[PIL_SHOW_SIZE];
	int i, n = sk_X509_num(certs), m = all == NULL ? 0 : sk_X509_num(all);

	for (i = 0; x != NULL && reason == PIL_OK && i < n + m; i++) {
		X509 *issuer = i < n ? sk_X509_value(certs, i) :
		    sk_X509_value(all, i - n);

		if (X509_check_issued(issuer, x) != X509_V_ERR_KEYUSAGE_NO_CERTSIGN)
			continue;
		pil_name_show(X509_get_subject_name(issuer), show);
		reason = pil_deny(v, PIL_CA_INVALID,
		    "the key usage of %s does not let it sign certificates",
		    show);
	}
	sk_X509_pop_free(all, X509_free);
	return reason;
}

static enum pil_reason
run(struct pil_verify *v, X509_STORE_CTX *ctx, STACK_OF(X509) *certs)
{
	enum pil_reason reason;

	if (X509_verify_cert(ctx) == 1 &&
	    X509_STORE_CTX_get_error(ctx) == X509_V_OK)
		return PIL_OK;
	if (pil_openssl_reason(X509_STORE_CTX_get_error(ctx)) ==
	    PIL_CHAIN_UNKNOWN_CA) {
		reason = unusable_issuer(v, ctx, certs);
		if (reason != PIL_OK)
			return reason;
	}
	return refused(v, ctx);
}

/*
 * Every certificate of the input stands in the chain at its place, byte for
 * byte. So a stray certificate, another order and a copy of a trust anchor
 * that is not the anchor itself are all refused.
 */
static enum pil_reason
check_input(struct pil_verify *v, STACK_OF(X509) *certs, STACK_OF(X509) *chain)
{
	char show[PIL_SHOW_SIZE];
	int i;

	for (i = 0; i < sk_X509_num(certs); i++) {
		X509 *x = sk_X509_value(certs, i);

		if (i < sk_X509_num(chain) &&
		    X509_cmp(x, sk_X509_value(chain, i)) == 0)
			continue;
		pil_name_show(X509_get_subject_name(x), show);
		return pil_deny(v, PIL_PROXY_EXTRA_CERTIFICATE,
		    "certificate %d, %s, is not part of the verified chain",
		    i + 1, show);
	}
	return PIL_OK;
}

static enum pil_reason
check_keys(struct pil_verify *v, STACK_OF(X509) *chain)
{
	int i, n = sk_X509_num(chain);
	enum pil_reason reason;

	for (i = 0; i < n; i++) {
		reason = pil_check_strength(v, sk_X509_value(chain, i),
		    i == n - 1);
		if (reason != PIL_OK)
			return reason;
	}
	return PIL_OK;
}

/*
 * Verify signatures, names, CA rights and key identifiers up to an anchor.
 * Times, revocation, signing_policy and RFC 3820 rules are the caller's.
 * On PIL_OK *out is the chain, leaf to root, and the caller's to free.
 */
enum pil_reason
pil_build_chain(struct pil_verify *v, STACK_OF(X509) *certs, enum pil_use use,
    STACK_OF(X509) **out)
{
	X509_STORE_CTX *ctx = X509_STORE_CTX_new_ex(pil_library(), NULL);
	STACK_OF(X509) *rest = sk_X509_new_null();
	enum pil_reason reason;

	if (ctx == NULL || rest == NULL) {
		reason = pil_deny(v, PIL_VERIFY_INTERNAL, "out of memory");
		goto done;
	}
	if ((reason = pil_load_anchors(v, certs)) != PIL_OK)
		goto done;
	if (!prepare(ctx, v->store, certs, rest, use)) {
		reason = pil_deny(v, PIL_VERIFY_INTERNAL,
		    "OpenSSL could not be prepared");
		goto done;
	}
	if ((reason = run(v, ctx, certs)) != PIL_OK)
		goto done;
	*out = X509_STORE_CTX_get1_chain(ctx);
	if (*out == NULL || sk_X509_num(*out) == 0)
		reason = pil_deny(v, PIL_VERIFY_INTERNAL, "out of memory");
	else if ((reason = check_input(v, certs, *out)) == PIL_OK)
		reason = check_keys(v, *out);
	if (reason != PIL_OK) {
		sk_X509_pop_free(*out, X509_free);
		*out = NULL;
	}
done:
	X509_STORE_CTX_free(ctx);
	sk_X509_free(rest);
	return reason;
}
