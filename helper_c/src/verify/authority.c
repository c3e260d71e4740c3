/*
 * The attribute authority: its certificate, the path from it to an anchor of
 * the CA directory, and, after everything else, its signature.
 */
#include <string.h>

#include <openssl/objects.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include "verify/voms.h"

/* A failure on the authority's path, with the reason for the VOMS part. */
static enum pil_reason
on_path(struct pil_verify *v, const struct pil_ac *a, enum pil_reason reason)
{
	char detail[PIL_DETAIL_SIZE];

	if (reason == PIL_VERIFY_INTERNAL || reason == PIL_CA_DIRECTORY_UNUSABLE)
		return reason;
	memcpy(detail, v->who->detail, sizeof(detail));
	return pil_deny(v, reason == PIL_CERTIFICATE_REVOKED ?
	    PIL_VOMS_AA_REVOKED : PIL_VOMS_AA_CHAIN, "VOMS server %.60s: %s",
	    a->server, detail);
}

/* A host's certificate: no authority over certificates and no proxy. */
static enum pil_reason
check_kind(struct pil_verify *v, const struct pil_ac *a, X509 *aa)
{
	uint32_t usage;

	(void)X509_check_purpose(aa, -1, 0);
	usage = X509_get_key_usage(aa);
	if (X509_get_extension_flags(aa) & EXFLAG_INVALID)
		return pil_deny(v, PIL_VOMS_AA_CHAIN,
		    "an extension of the certificate of VOMS server %.100s is "
		    "not well formed", a->server);
	if (X509_check_ca(aa) != 0)
		return pil_deny(v, PIL_VOMS_AA_CHAIN,
		    "VOMS server %.100s signs as a certificate authority",
		    a->server);
	if (X509_get_ext_by_NID(aa, NID_proxyCertInfo, -1) >= 0)
		return pil_deny(v, PIL_VOMS_AA_CHAIN,
		    "VOMS server %.100s signs with a proxy", a->server);
	if (usage != UINT32_MAX &&
	    (usage & (KU_DIGITAL_SIGNATURE | KU_NON_REPUDIATION)) == 0)
		return pil_deny(v, PIL_VOMS_AA_CHAIN,
		    "the key usage of VOMS server %.100s does not let it sign",
		    a->server);
	return PIL_OK;
}

static enum pil_reason
check_path(struct pil_verify *v)
{
	STACK_OF(X509) *chain = v->chain;
	enum pil_reason reason;

	if (sk_X509_num(chain) < 2)
		return pil_deny(v, PIL_CA_AS_END_ENTITY,
		    "a trust anchor was given as somebody's certificate");
	if ((reason = pil_check_times(v, chain, 0)) != PIL_OK ||
	    (reason = pil_check_revocation(v, chain, 0)) != PIL_OK)
		return reason;
	return pil_check_signing(v, chain, 0);
}

static enum pil_reason
check_chain(struct pil_verify *v, struct pil_ac *a)
{
	STACK_OF(X509) *user = v->chain;
	int64_t from = v->who->not_before, until = v->who->not_after;
	enum pil_reason reason;

	v->chain = NULL;
	reason = pil_build_chain(v, a->certs, PIL_USE_AUTHORITY, &v->chain);
	if (reason == PIL_OK)
		reason = check_path(v);
	sk_X509_pop_free(v->chain, X509_free);
	v->chain = user;
	if (reason != PIL_OK)
		return on_path(v, a, reason);
	/* The identity's times are those of its own chain. */
	v->who->not_before = from;
	v->who->not_after = until;
	return PIL_OK;
}

static enum pil_reason
check_signature(struct pil_verify *v, const struct pil_ac *a, X509 *aa)
{
	EVP_PKEY *key = X509_get0_pubkey(aa);
	int digest, kind;

	if (OBJ_find_sigid_algs(OBJ_obj2nid(a->ac->algorithm->algorithm),
	    &digest, &kind) != 1 || key == NULL ||
	    !EVP_PKEY_is_a(key, kind == NID_rsaEncryption ? "RSA" : "EC"))
		return pil_deny(v, PIL_VOMS_ALGORITHM,
		    "the attributes of %.60s are signed with an algorithm that "
		    "is not one of their server's key", a->vo);
	if (!pil_ac_signed(a->ac, key))
		return pil_deny(v, PIL_VOMS_SIGNATURE,
		    "the signature of the attributes of %.60s is wrong", a->vo);
	return PIL_OK;
}

enum pil_reason
pil_check_authority(struct pil_verify *v, struct pil_ac *a)
{
	X509 *aa = sk_X509_value(a->certs, 0);
	enum pil_reason reason;

	if ((reason = check_kind(v, a, aa)) != PIL_OK ||
	    (reason = check_chain(v, a)) != PIL_OK)
		return reason;
	return check_signature(v, a, aa);
}
