/*
 * VOMS attributes of a verified chain. The proxy nearest to the leaf that
 * carries any decides; one bad attribute certificate of a configured VO fails
 * the whole chain; those of VOs without a directory here are left out.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <openssl/objects.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include "verify/voms.h"

#define EXTENSION	"1.3.6.1.4.1.8005.100.100.5"
#define ATTRIBUTE	"1.3.6.1.4.1.8005.100.100.4"

static int
is_oid(const ASN1_OBJECT *oid, const char *dotted)
{
	char text[80];

	return OBJ_obj2txt(text, sizeof(text), oid, 1) > 0 &&
	    strcmp(text, dotted) == 0;
}

/* The one list of FQANs, and the server that speaks for the VO. */
static enum pil_reason
read_attributes(struct pil_verify *v, struct pil_ac *a)
{
	const STACK_OF(PIL_AC_ATTRIBUTE) *all = a->ac->info->attributes;
	const PIL_AC_ATTRIBUTE *one;
	const GENERAL_NAME *name;
	const ASN1_STRING *uri;

	one = sk_PIL_AC_ATTRIBUTE_value(all, 0);
	if (sk_PIL_AC_ATTRIBUTE_num(all) != 1 ||
	    !is_oid(one->type, ATTRIBUTE) ||
	    sk_PIL_AC_SYNTAX_num(one->values) != 1)
		return pil_deny(v, PIL_VOMS_ATTRIBUTES,
		    "an attribute certificate does not hold exactly one list "
		    "of FQANs");
	a->syntax = sk_PIL_AC_SYNTAX_value(one->values, 0);
	if (sk_ASN1_OCTET_STRING_num(a->syntax->values) < 1)
		return pil_deny(v, PIL_VOMS_ATTRIBUTES,
		    "an attribute certificate holds no FQAN");
	name = sk_GENERAL_NAME_value(a->syntax->authority, 0);
	if (sk_GENERAL_NAME_num(a->syntax->authority) != 1 ||
	    name->type != GEN_URI)
		return pil_deny(v, PIL_VOMS_URI,
		    "an attribute certificate does not name one server");
	uri = name->d.uniformResourceIdentifier;
	if (!pil_voms_uri(ASN1_STRING_get0_data(uri),
	    (size_t)ASN1_STRING_length(uri), a->vo, a->server))
		return pil_deny(v, PIL_VOMS_URI,
		    "an attribute certificate does not name its server as "
		    "vo://host:port");
	return PIL_OK;
}

/* 1: the VO has a directory; 0: it has none, is left out and noted. */
static int
configured(struct pil_verify *v, struct pil_ac *a, enum pil_reason *reason)
{
	*reason = PIL_OK;
	a->vo_dir = pil_open_dir(&v->dirs, v->dirs.voms, a->vo, O_NOFOLLOW);
	if (a->vo_dir == -1 && errno == ENOENT) {
		(void)snprintf(v->who->detail, sizeof(v->who->detail),
		    "the attributes of the VO %.60s are left out: it is not "
		    "configured here", a->vo);
		return 0;
	}
	if (a->vo_dir == -1)
		*reason = pil_deny(v, PIL_VOMS_LSC_UNUSABLE,
		    "the directory of the VO %.60s cannot be used", a->vo);
	return 1;
}

static enum pil_reason
check_form(struct pil_verify *v, const struct pil_ac *a)
{
	const PIL_AC_INFO *info = a->ac->info;
	int64_t version;
	int nid, type;

	if (ASN1_INTEGER_get_int64(&version, info->version) != 1 ||
	    version != 1)
		return pil_deny(v, PIL_VOMS_VERSION,
		    "the attributes of %.60s are not version 2", a->vo);
	nid = OBJ_obj2nid(info->algorithm->algorithm);
	type = info->algorithm->parameter == NULL ? V_ASN1_UNDEF :
	    ASN1_TYPE_get(info->algorithm->parameter);
	if (X509_ALGOR_cmp(info->algorithm, a->ac->algorithm) != 0 ||
	    !(((nid == NID_sha256WithRSAEncryption ||
	    nid == NID_sha384WithRSAEncryption ||
	    nid == NID_sha512WithRSAEncryption) && type == V_ASN1_NULL) ||
	    ((nid == NID_ecdsa_with_SHA256 || nid == NID_ecdsa_with_SHA384 ||
	    nid == NID_ecdsa_with_SHA512) && type == V_ASN1_UNDEF)))
		return pil_deny(v, PIL_VOMS_ALGORITHM,
		    "the attributes of %.60s are not signed with RSA or ECDSA "
		    "and SHA-2", a->vo);
	if ((a->ac->signature->flags & 0x07) != 0 ||
	    ASN1_STRING_length(info->serial) > 20)
		return pil_deny(v, PIL_VOMS_MALFORMED,
		    "signature or serial number of the attributes of %.60s are "
		    "malformed", a->vo);
	return PIL_OK;
}

/* The one directoryName of the list; NULL when it is not exactly that. */
static const X509_NAME *
directory_name(const GENERAL_NAMES *names)
{
	const GENERAL_NAME *one = sk_GENERAL_NAME_value(names, 0);

	if (sk_GENERAL_NAME_num(names) != 1 || one->type != GEN_DIRNAME)
		return NULL;
	return one->d.directoryName;
}

/* Servers name the holder by the subject or, as RFC 5755 says, the issuer. */
static enum pil_reason
check_holder(struct pil_verify *v, const struct pil_ac *a)
{
	const PIL_AC_SERIAL *base = a->ac->info->holder->base;
	const X509_NAME *name = directory_name(base->issuer);
	X509 *eec = sk_X509_value(v->chain, v->eec);

	if (name == NULL ||
	    (!pil_name_same(name, X509_get_subject_name(eec)) &&
	    !pil_name_same(name, X509_get_issuer_name(eec))) ||
	    ASN1_INTEGER_cmp(base->serial, X509_get0_serialNumber(eec)) != 0)
		return pil_deny(v, PIL_VOMS_HOLDER,
		    "the attributes of %.60s were made for another certificate",
		    a->vo);
	return PIL_OK;
}

static enum pil_reason
check_validity(struct pil_verify *v, const struct pil_ac *a)
{
	const PIL_AC_VALIDITY *validity = a->ac->info->validity;
	int64_t from, until, longest = v->opt->max_voms_seconds;

	if (!pil_seconds_strict(validity->from, &from) ||
	    !pil_seconds_strict(validity->until, &until))
		return pil_deny(v, PIL_VOMS_MALFORMED,
		    "the times of the attributes of %.60s are malformed",
		    a->vo);
	if (longest <= 0)
		longest = PIL_VOMS_SECONDS;
	if (from >= until || until - from > longest)
		return pil_deny(v, PIL_VOMS_LIFETIME,
		    "the attributes of %.60s live for %lld seconds, and %lld "
		    "are allowed", a->vo, (long long)(until - from),
		    (long long)longest);
	if (!pil_begun(v, from))
		return pil_deny(v, PIL_VOMS_NOT_YET_VALID,
		    "the attributes of %.60s begin in %lld seconds", a->vo,
		    pil_away(v, from));
	if (pil_ended(v, until))
		return pil_deny(v, PIL_VOMS_EXPIRED,
		    "the attributes of %.60s ended %lld seconds ago", a->vo,
		    -pil_away(v, until));
	if (v->who->voms_not_after == 0 || until < v->who->voms_not_after)
		v->who->voms_not_after = until;
	return PIL_OK;
}

static enum pil_reason
check_issuer(struct pil_verify *v, const struct pil_ac *a)
{
	const X509_NAME *name = directory_name(a->ac->info->issuer->name);

	if (name == NULL || !pil_name_same(name,
	    X509_get_subject_name(sk_X509_value(a->certs, 0))))
		return pil_deny(v, PIL_VOMS_ISSUER,
		    "the attributes of %.60s name another issuer than the "
		    "certificate that they carry", a->vo);
	return PIL_OK;
}

/* Append the normalised FQANs; the same one twice is once. */
static enum pil_reason
take_fqans(struct pil_verify *v, const struct pil_ac *a)
{
	const STACK_OF(ASN1_OCTET_STRING) *values = a->syntax->values;
	struct pil_identity *who = v->who;
	char fqan[PIL_NAME_SIZE];
	uint32_t i;
	int n;

	for (n = 0; n < sk_ASN1_OCTET_STRING_num(values); n++) {
		const ASN1_STRING *s = sk_ASN1_OCTET_STRING_value(values, n);

		memset(fqan, 0, sizeof(fqan));
		if (!pil_voms_fqan(ASN1_STRING_get0_data(s),
		    (size_t)ASN1_STRING_length(s), a->vo, fqan))
			return pil_deny(v, PIL_VOMS_FQAN,
			    "attribute %d of %.60s is not an FQAN of it",
			    n + 1, a->vo);
		for (i = 0; i < who->fqan_count; i++)
			if (strcmp(who->fqan[i], fqan) == 0)
				break;
		if (i < who->fqan_count)
			continue;
		if (who->fqan_count == PIL_FQAN_MAX)
			return pil_deny(v, PIL_VOMS_TOO_LARGE,
			    "there are more than %d FQANs", PIL_FQAN_MAX);
		if (who->fqan_count == 0)
			memcpy(who->vo, a->vo, sizeof(who->vo));
		memcpy(who->fqan[who->fqan_count++], fqan, sizeof(fqan));
	}
	who->flags |= PIL_F_VOMS;
	return PIL_OK;
}

static enum pil_reason
check_one(struct pil_verify *v, PIL_AC *ac)
{
	struct pil_ac a = { .ac = ac, .vo_dir = -1 };
	enum pil_reason reason;

	if ((reason = read_attributes(v, &a)) == PIL_OK &&
	    configured(v, &a, &reason) && reason == PIL_OK &&
	    (reason = check_form(v, &a)) == PIL_OK &&
	    (reason = check_holder(v, &a)) == PIL_OK &&
	    (reason = check_validity(v, &a)) == PIL_OK &&
	    (reason = pil_check_ac_extensions(v, &a)) == PIL_OK &&
	    (reason = check_issuer(v, &a)) == PIL_OK &&
	    (reason = take_fqans(v, &a)) == PIL_OK &&
	    (reason = pil_check_lsc(v, &a)) == PIL_OK)
		reason = pil_check_authority(v, &a);
	sk_X509_pop_free(a.certs, X509_free);
	if (a.vo_dir != -1)
		(void)close(a.vo_dir);
	return reason;
}

static enum pil_reason
check_list(struct pil_verify *v, const ASN1_OCTET_STRING *value)
{
	enum pil_reason reason = PIL_OK;
	PIL_AC_LIST *list;
	int i, n;

	if ((size_t)ASN1_STRING_length(value) > PIL_VOMS_BYTES)
		return pil_deny(v, PIL_VOMS_TOO_LARGE,
		    "the VOMS attributes are longer than %zu bytes",
		    PIL_VOMS_BYTES);
	if ((list = pil_ac_list(value)) == NULL)
		return pil_deny(v, PIL_VOMS_MALFORMED,
		    "the VOMS attributes are not strict DER of the known "
		    "shape");
	n = sk_PIL_AC_num(list->acs);
	if (n == 0)
		reason = pil_deny(v, PIL_VOMS_MALFORMED,
		    "the VOMS extension holds no attribute certificate");
	else if (n > PIL_VOMS_ACS)
		reason = pil_deny(v, PIL_VOMS_TOO_LARGE,
		    "there are more than %d attribute certificates",
		    PIL_VOMS_ACS);
	for (i = 0; reason == PIL_OK && i < n; i++)
		reason = check_one(v, sk_PIL_AC_value(list->acs, i));
	pil_ac_list_free(list);
	return reason;
}

enum pil_reason
pil_check_voms(struct pil_verify *v)
{
	ASN1_OBJECT *oid;
	X509 *x = NULL;
	int i, at = -1, again;

	if (v->dirs.voms == -1)
		return PIL_OK;
	if ((oid = OBJ_txt2obj(EXTENSION, 1)) == NULL)
		return pil_deny(v, PIL_VERIFY_INTERNAL, "out of memory");
	for (i = 0; i < v->eec && at < 0; i++) {
		x = sk_X509_value(v->chain, i);
		at = X509_get_ext_by_OBJ(x, oid, -1);
	}
	again = at < 0 ? -1 : X509_get_ext_by_OBJ(x, oid, at);
	ASN1_OBJECT_free(oid);
	if (at < 0)
		return PIL_OK;
	if (again >= 0)
		return pil_deny(v, PIL_VOMS_DUPLICATE,
		    "a proxy carries the VOMS extension twice");
	return check_list(v, X509_EXTENSION_get_data(X509_get_ext(x, at)));
}
