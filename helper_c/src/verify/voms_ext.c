/*
 * Extensions of an attribute certificate: each at most once, only targets may
 * be critical, and what VOMS servers always write must be there.
 */
#include <string.h>

#include <openssl/evp.h>
#include <openssl/objects.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include "verify/voms.h"

#define CERTIFICATES	"1.3.6.1.4.1.8005.100.100.10"
#define TARGETS		"2.5.29.55"
#define NO_REVOCATION	"2.5.29.56"
#define AUTHORITY_KEY	"2.5.29.35"

/* The value of the extension, NULL when it is not there. */
static const ASN1_OCTET_STRING *
find(const struct pil_ac *a, const char *dotted)
{
	const STACK_OF(X509_EXTENSION) *all = a->ac->info->extensions;
	char text[80];
	int i;

	for (i = 0; i < sk_X509_EXTENSION_num(all); i++) {
		X509_EXTENSION *ext = sk_X509_EXTENSION_value(all, i);

		if (OBJ_obj2txt(text, sizeof(text),
		    X509_EXTENSION_get_object(ext), 1) > 0 &&
		    strcmp(text, dotted) == 0)
			return X509_EXTENSION_get_data(ext);
	}
	return NULL;
}

static enum pil_reason
check_kinds(struct pil_verify *v, const struct pil_ac *a)
{
	const STACK_OF(X509_EXTENSION) *all = a->ac->info->extensions;
	int i, j, n = sk_X509_EXTENSION_num(all);
	char text[80];

	for (i = 0; i < n; i++) {
		X509_EXTENSION *ext = sk_X509_EXTENSION_value(all, i);
		const ASN1_OBJECT *type = X509_EXTENSION_get_object(ext);

		if (OBJ_obj2txt(text, sizeof(text), type, 1) <= 0)
			text[0] = '\0';
		for (j = 0; j < i; j++)
			if (OBJ_cmp(type, X509_EXTENSION_get_object(
			    sk_X509_EXTENSION_value(all, j))) == 0)
				return pil_deny(v, PIL_VOMS_EXTENSION,
				    "the attributes of %.60s have the "
				    "extension %s twice", a->vo, text);
		if (X509_EXTENSION_get_critical(ext) == 1 &&
		    strcmp(text, TARGETS) != 0)
			return pil_deny(v, PIL_VOMS_EXTENSION,
			    "the attributes of %.60s have the critical "
			    "extension %s", a->vo, text);
	}
	return PIL_OK;
}

static enum pil_reason
check_no_revocation(struct pil_verify *v, const struct pil_ac *a)
{
	const ASN1_OCTET_STRING *value = find(a, NO_REVOCATION);

	if (value == NULL || ASN1_STRING_length(value) != 2 ||
	    memcmp(ASN1_STRING_get0_data(value), "\005\000", 2) != 0)
		return pil_deny(v, PIL_VOMS_EXTENSION,
		    "the attributes of %.60s do not say that they cannot be "
		    "revoked", a->vo);
	return PIL_OK;
}

static enum pil_reason
read_certificates(struct pil_verify *v, struct pil_ac *a)
{
	const ASN1_OCTET_STRING *value = find(a, CERTIFICATES);
	int too_many = 0;

	if (value == NULL)
		return pil_deny(v, PIL_VOMS_AA_CHAIN,
		    "the attributes of %.60s do not carry the certificate of "
		    "their server", a->vo);
	if ((a->certs = pil_ac_certs(value, &too_many)) != NULL)
		return PIL_OK;
	if (too_many)
		return pil_deny(v, PIL_VOMS_TOO_LARGE,
		    "the attributes of %.60s carry more than %d certificates",
		    a->vo, PIL_VOMS_CERTS);
	return pil_deny(v, PIL_VOMS_MALFORMED,
	    "the certificates that the attributes of %.60s carry are not DER",
	    a->vo);
}

static int
is_key_of(const ASN1_OCTET_STRING *id, X509 *aa)
{
	const ASN1_OCTET_STRING *own = X509_get0_subject_key_id(aa);
	EVP_MD *sha1 = EVP_MD_fetch(pil_library(), "SHA1", NULL);
	unsigned char digest[EVP_MAX_MD_SIZE];
	unsigned int len = 0;
	int same;

	same = own != NULL && ASN1_OCTET_STRING_cmp(own, id) == 0;
	if (!same && sha1 != NULL &&
	    X509_pubkey_digest(aa, sha1, digest, &len) == 1)
		same = (size_t)ASN1_STRING_length(id) == len &&
		    memcmp(ASN1_STRING_get0_data(id), digest, len) == 0;
	EVP_MD_free(sha1);
	return same;
}

static AUTHORITY_KEYID *
decode_key_id(const ASN1_OCTET_STRING *value)
{
	const unsigned char *der = ASN1_STRING_get0_data(value), *at = der;
	int len = ASN1_STRING_length(value), n;
	unsigned char *again = NULL;
	AUTHORITY_KEYID *id = d2i_AUTHORITY_KEYID(NULL, &at, len);

	if (id == NULL)
		return NULL;
	n = i2d_AUTHORITY_KEYID(id, &again);
	if (n != len || memcmp(again, der, (size_t)len) != 0) {
		AUTHORITY_KEYID_free(id);
		id = NULL;
	}
	OPENSSL_free(again);
	return id;
}

static enum pil_reason
check_authority_key(struct pil_verify *v, const struct pil_ac *a)
{
	const ASN1_OCTET_STRING *value = find(a, AUTHORITY_KEY);
	AUTHORITY_KEYID *id = value == NULL ? NULL : decode_key_id(value);
	int good;

	good = id != NULL && id->keyid != NULL && id->issuer == NULL &&
	    id->serial == NULL &&
	    is_key_of(id->keyid, sk_X509_value(a->certs, 0));
	AUTHORITY_KEYID_free(id);
	if (!good)
		return pil_deny(v, PIL_VOMS_AUTHORITY_KEY,
		    "the attributes of %.60s do not name the key of their "
		    "server", a->vo);
	return PIL_OK;
}

static enum pil_reason
check_targets(struct pil_verify *v, const struct pil_ac *a)
{
	const ASN1_OCTET_STRING *value = find(a, TARGETS);
	const char *host = v->opt->host;

	if (value != NULL && !pil_ac_target(value, host))
		return pil_deny(v, PIL_VOMS_TARGET,
		    "the attributes of %.60s are not meant for this host, "
		    "%.100s", a->vo, host == NULL ? "(no name)" : host);
	return PIL_OK;
}

/* On PIL_OK a->certs is filled, its first the attribute authority's. */
enum pil_reason
pil_check_ac_extensions(struct pil_verify *v, struct pil_ac *a)
{
	enum pil_reason reason;

	if ((reason = check_kinds(v, a)) != PIL_OK ||
	    (reason = check_no_revocation(v, a)) != PIL_OK ||
	    (reason = check_targets(v, a)) != PIL_OK ||
	    (reason = read_certificates(v, a)) != PIL_OK)
		return reason;
	return check_authority_key(v, a);
}
