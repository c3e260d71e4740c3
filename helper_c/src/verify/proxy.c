/*
 * RFC 3820 rules, on the certificates of the input from the leaf to the end
 * entity. Nothing is believed yet: this only refuses. pil_build_chain() then
 * demands that the verified chain begins with exactly these certificates.
 */
#include <string.h>

#include <openssl/objects.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include "verify/core.h"

#define GT3_DRAFT	"1.3.6.1.4.1.3536.1.222"
#define LIMITED		"1.3.6.1.4.1.3536.1.1.1.9"

static int
has_extension(X509 *x, const char *dotted)
{
	ASN1_OBJECT *oid = OBJ_txt2obj(dotted, 1);
	int found = oid != NULL && X509_get_ext_by_OBJ(x, oid, -1) >= 0;

	ASN1_OBJECT_free(oid);
	return found;
}

static int
is_proxy(X509 *x)
{
	return X509_get_ext_by_NID(x, NID_proxyCertInfo, -1) >= 0;
}

static int
last_cn_is(X509 *x, const char *text)
{
	const X509_NAME *name = X509_get_subject_name(x);
	const X509_NAME_ENTRY *e;
	const ASN1_STRING *s;

	e = X509_NAME_get_entry(name, X509_NAME_entry_count(name) - 1);
	if (e == NULL ||
	    OBJ_obj2nid(X509_NAME_ENTRY_get_object(e)) != NID_commonName)
		return 0;
	s = X509_NAME_ENTRY_get_data(e);
	return (size_t)ASN1_STRING_length(s) == strlen(text) &&
	    memcmp(ASN1_STRING_get0_data(s), text, strlen(text)) == 0;
}

/* The subject is the issuer's RDNs, byte for byte, and one RDN of one CN. */
static int
name_follows(X509 *x)
{
	const X509_NAME *subject = X509_get_subject_name(x);
	X509_NAME *shorter = X509_NAME_dup(subject);
	X509_NAME_ENTRY *last = NULL;
	int n, good = 0;

	if (shorter == NULL)
		return 0;
	n = X509_NAME_entry_count(shorter);
	if (n >= 2)
		last = X509_NAME_delete_entry(shorter, n - 1);
	if (last != NULL &&
	    OBJ_obj2nid(X509_NAME_ENTRY_get_object(last)) == NID_commonName &&
	    X509_NAME_ENTRY_set(last) !=
	    X509_NAME_ENTRY_set(X509_NAME_get_entry(shorter, n - 2)))
		good = pil_name_same(shorter, X509_get_issuer_name(x));
	X509_NAME_ENTRY_free(last);
	X509_NAME_free(shorter);
	return good;
}

/* Kinds that were in use before RFC 3820: GT2's bare CN and GT3's draft. */
static int
is_old(X509 *x)
{
	return (last_cn_is(x, "proxy") || last_cn_is(x, "limited proxy")) &&
	    !is_proxy(x) && !has_extension(x, GT3_DRAFT) && name_follows(x);
}

static int
is_legacy(X509 *x)
{
	return has_extension(x, GT3_DRAFT) || is_old(x);
}

/* A proxy by the policy's measure. */
static int
is_any_proxy(const struct pil_verify *v, X509 *x)
{
	return is_proxy(x) ||
	    ((v->opt->policy & PIL_P_ACCEPT_OLD) && is_old(x));
}

struct info {
	int	 limited;
	int64_t	 path;		/* -1: unlimited */
};

static enum pil_reason
read_policy(struct pil_verify *v, PROXY_CERT_INFO_EXTENSION *pci,
    struct info *info, const char *show)
{
	char language[80];
	int nid = OBJ_obj2nid(pci->proxyPolicy->policyLanguage);

	info->path = -1;
	if (pci->pcPathLengthConstraint != NULL &&
	    (ASN1_INTEGER_get_int64(&info->path,
	    pci->pcPathLengthConstraint) != 1 || info->path < 0))
		return pil_deny(v, PIL_PROXY_INFO_MALFORMED,
		    "the path length of %s is not a small number", show);
	if (OBJ_obj2txt(language, sizeof(language),
	    pci->proxyPolicy->policyLanguage, 1) <= 0)
		language[0] = '\0';
	info->limited = strcmp(language, LIMITED) == 0;
	if (nid != NID_id_ppl_inheritAll && !info->limited)
		return pil_deny(v, PIL_PROXY_POLICY_UNSUPPORTED,
		    "%s has the policy language %s; only inheritAll and "
		    "limited speak for the owner", show, language);
	if (pci->proxyPolicy->policy != NULL)
		return pil_deny(v, PIL_PROXY_INFO_MALFORMED,
		    "%s has a policy text, which its language forbids", show);
	return PIL_OK;
}

static PROXY_CERT_INFO_EXTENSION *
decode_info(const ASN1_OCTET_STRING *value)
{
	const unsigned char *der = ASN1_STRING_get0_data(value), *at = der;
	size_t len = (size_t)ASN1_STRING_length(value);
	PROXY_CERT_INFO_EXTENSION *pci;
	unsigned char *again = NULL;
	int n;

	pci = d2i_PROXY_CERT_INFO_EXTENSION(NULL, &at, (long)len);
	if (pci == NULL)
		return NULL;
	n = i2d_PROXY_CERT_INFO_EXTENSION(pci, &again);
	if (n < 0 || (size_t)n != len || memcmp(again, der, len) != 0) {
		PROXY_CERT_INFO_EXTENSION_free(pci);
		pci = NULL;
	}
	OPENSSL_free(again);
	return pci;
}

static enum pil_reason
read_info(struct pil_verify *v, X509 *x, struct info *info, const char *show)
{
	int at = X509_get_ext_by_NID(x, NID_proxyCertInfo, -1);
	X509_EXTENSION *ext = X509_get_ext(x, at);
	PROXY_CERT_INFO_EXTENSION *pci;
	enum pil_reason reason;

	if (X509_get_ext_by_NID(x, NID_proxyCertInfo, at) >= 0)
		return pil_deny(v, PIL_PROXY_INFO_MALFORMED,
		    "%s has the proxyCertInfo extension twice", show);
	if ((pci = decode_info(X509_EXTENSION_get_data(ext))) == NULL)
		return pil_deny(v, PIL_PROXY_INFO_MALFORMED,
		    "the proxyCertInfo of %s is not DER", show);
	reason = read_policy(v, pci, info, show);
	PROXY_CERT_INFO_EXTENSION_free(pci);
	if (reason == PIL_OK && X509_EXTENSION_get_critical(ext) != 1)
		reason = pil_deny(v, PIL_PROXY_NOT_CRITICAL,
		    "the proxyCertInfo of %s is not critical", show);
	return reason;
}

static enum pil_reason
check_extensions(struct pil_verify *v, X509 *x, const char *show)
{
	char what[80];
	int i;

	for (i = 0; i < X509_get_ext_count(x); i++) {
		X509_EXTENSION *ext = X509_get_ext(x, i);

		if (X509_EXTENSION_get_critical(ext) != 1 ||
		    X509_supported_extension(ext) == 1)
			continue;
		if (OBJ_obj2txt(what, sizeof(what),
		    X509_EXTENSION_get_object(ext), 1) <= 0)
			what[0] = '\0';
		return pil_deny(v, PIL_CRITICAL_EXTENSION,
		    "%s has the critical extension %s", show, what);
	}
	return PIL_OK;
}

/* What a proxy may not carry, and what its key may be used for. */
static enum pil_reason
check_proxy(struct pil_verify *v, X509 *x, const char *show)
{
	uint32_t usage = X509_get_key_usage(x);

	if (X509_get_ext_by_NID(x, NID_subject_alt_name, -1) >= 0 ||
	    X509_get_ext_by_NID(x, NID_issuer_alt_name, -1) >= 0)
		return pil_deny(v, PIL_PROXY_FORBIDDEN_EXTENSION,
		    "%s is a proxy with an alternative name", show);
	if (X509_get_extension_flags(x) & EXFLAG_CA)
		return pil_deny(v, PIL_PROXY_FORBIDDEN_EXTENSION,
		    "%s is a proxy that calls itself a certificate authority",
		    show);
	if (X509_get_version(x) != X509_VERSION_3)
		return pil_deny(v, PIL_PROXY_INFO_MALFORMED,
		    "%s is a proxy but not a version 3 certificate", show);
	if (usage != UINT32_MAX && ((usage & KU_DIGITAL_SIGNATURE) == 0 ||
	    (usage & KU_KEY_CERT_SIGN) != 0))
		return pil_deny(v, PIL_PROXY_KEY_USAGE,
		    "the key usage of %s is not one for a proxy", show);
	return PIL_OK;
}

static enum pil_reason
check_issuer(struct pil_verify *v, X509 *x, X509 *issuer, const char *show)
{
	uint32_t usage = X509_get_key_usage(issuer);

	if (X509_NAME_cmp(X509_get_issuer_name(x),
	    X509_get_subject_name(issuer)) != 0)
		return pil_deny(v, PIL_PROXY_EXTRA_CERTIFICATE,
		    "%s is not issued by the certificate after it", show);
	if (!pil_name_same(X509_get_issuer_name(x),
	    X509_get_subject_name(issuer)) || !name_follows(x))
		return pil_deny(v, PIL_PROXY_NAME,
		    "the subject of %s is not its issuer's and one CN", show);
	if (X509_check_ca(issuer) != 0)
		return pil_deny(v, PIL_CA_AS_END_ENTITY,
		    "%s is a proxy of a certificate authority", show);
	if (usage != UINT32_MAX && (usage & KU_DIGITAL_SIGNATURE) == 0)
		return pil_deny(v, PIL_PROXY_KEY_USAGE,
		    "the issuer of %s may not sign by its key usage", show);
	return PIL_OK;
}

/* One certificate by itself; how many proxies are below it is its index. */
static enum pil_reason
check_one(struct pil_verify *v, int index, struct info *info)
{
	X509 *x = sk_X509_value(v->certs, index);
	enum pil_reason reason;
	char show[PIL_SHOW_SIZE];

	pil_name_show(X509_get_subject_name(x), show);
	/* Fills OpenSSL's cache of the extensions; its verdict is the flag. */
	(void)X509_check_purpose(x, -1, 0);
	if (is_proxy(x) &&
	    (reason = read_info(v, x, info, show)) != PIL_OK)
		return reason;
	if (index < v->eec && (reason = check_proxy(v, x, show)) != PIL_OK)
		return reason;
	if (X509_get_extension_flags(x) & EXFLAG_INVALID)
		return pil_deny(v, PIL_PROXY_MALFORMED,
		    "an extension of %s is not well formed or stands twice",
		    show);
	if ((reason = check_extensions(v, x, show)) != PIL_OK)
		return reason;
	/* GT2 says by the name what RFC 3820 says by the policy. */
	if (index < v->eec && !is_proxy(x)) {
		info->limited = last_cn_is(x, "limited proxy");
		info->path = -1;
	} else if (is_legacy(x) && !is_proxy(x))
		return pil_deny(v, PIL_PROXY_LEGACY,
		    "%s is a proxy of a kind older than RFC 3820", show);
	if (is_proxy(x) && info->path >= 0 && info->path < index)
		return pil_deny(v, PIL_PROXY_PATH_LENGTH,
		    "%s allows %lld proxies below it and has %d", show,
		    (long long)info->path, index);
	return pil_check_strength(v, x, X509_self_signed(x, 0) == 1);
}

static enum pil_reason
find_end_entity(struct pil_verify *v)
{
	int n = sk_X509_num(v->certs), i;
	char show[PIL_SHOW_SIZE];

	for (v->eec = 0; v->eec < n; v->eec++)
		if (!is_any_proxy(v, sk_X509_value(v->certs, v->eec)))
			break;
	if (v->eec > PIL_DEPTH_MAX)
		return pil_deny(v, PIL_CHAIN_TOO_DEEP,
		    "there are %d proxies in the chain, and %d are allowed",
		    v->eec, PIL_DEPTH_MAX);
	for (i = 1; i < v->eec; i++)
		if (is_proxy(sk_X509_value(v->certs, i)) !=
		    is_proxy(sk_X509_value(v->certs, 0)))
			return pil_deny(v, PIL_PROXY_LEGACY,
			    "proxies of the RFC and older ones are in one "
			    "chain");
	if (v->eec < n)
		return PIL_OK;
	pil_name_show(X509_get_issuer_name(sk_X509_value(v->certs, n - 1)),
	    show);
	return pil_deny(v, PIL_CHAIN_UNKNOWN_CA,
	    "the certificate of %s is not in the input", show);
}

/* Set flags and depth from the proxies, the end entity's index in v->eec. */
enum pil_reason
pil_check_proxies(struct pil_verify *v)
{
	struct info info[PIL_DEPTH_MAX + 1];
	enum pil_reason reason;
	char show[PIL_SHOW_SIZE];
	int i, limited = 0;

	memset(info, 0, sizeof(info));
	if ((reason = find_end_entity(v)) != PIL_OK)
		return reason;
	for (i = 0; i <= v->eec; i++)
		if ((reason = check_one(v, i, &info[i])) != PIL_OK)
			return reason;
	for (i = v->eec - 1; i >= 0; i--) {
		X509 *x = sk_X509_value(v->certs, i);

		pil_name_show(X509_get_subject_name(x), show);
		reason = check_issuer(v, x, sk_X509_value(v->certs, i + 1),
		    show);
		if (reason != PIL_OK)
			return reason;
		if (limited && !info[i].limited)
			return pil_deny(v, PIL_PROXY_FULL_UNDER_LIMITED,
			    "%s is a full proxy below a limited one", show);
		limited = info[i].limited;
	}
	if (X509_check_ca(sk_X509_value(v->certs, v->eec)) != 0)
		return pil_deny(v, PIL_CA_AS_END_ENTITY,
		    "a certificate authority's own certificate was given as "
		    "somebody's");
	v->who->depth = (uint32_t)v->eec;
	if (v->eec > 0)
		v->who->flags |= PIL_F_PROXY;
	if (limited)
		v->who->flags |= PIL_F_LIMITED;
	return PIL_OK;
}
