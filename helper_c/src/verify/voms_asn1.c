/*
 * The shape of an attribute certificate as ASN.1 templates. OpenSSL's decoder
 * takes lax BER too, so each value is encoded again and must be the same
 * bytes. That also makes the encoding of the signed part the signed bytes.
 */
#include <string.h>
#include <strings.h>

#include <openssl/asn1t.h>
#include <openssl/crypto.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include "verify/voms.h"

ASN1_SEQUENCE(PIL_AC_SERIAL) = {
	ASN1_SEQUENCE_OF(PIL_AC_SERIAL, issuer, GENERAL_NAME),
	ASN1_SIMPLE(PIL_AC_SERIAL, serial, ASN1_INTEGER),
} static_ASN1_SEQUENCE_END(PIL_AC_SERIAL)

ASN1_SEQUENCE(PIL_AC_HOLDER) = {
	ASN1_IMP(PIL_AC_HOLDER, base, PIL_AC_SERIAL, 0),
} static_ASN1_SEQUENCE_END(PIL_AC_HOLDER)

ASN1_SEQUENCE(PIL_AC_ISSUER) = {
	ASN1_SEQUENCE_OF(PIL_AC_ISSUER, name, GENERAL_NAME),
} static_ASN1_SEQUENCE_END(PIL_AC_ISSUER)

ASN1_SEQUENCE(PIL_AC_VALIDITY) = {
	ASN1_SIMPLE(PIL_AC_VALIDITY, from, ASN1_GENERALIZEDTIME),
	ASN1_SIMPLE(PIL_AC_VALIDITY, until, ASN1_GENERALIZEDTIME),
} static_ASN1_SEQUENCE_END(PIL_AC_VALIDITY)

ASN1_SEQUENCE(PIL_AC_SYNTAX) = {
	ASN1_IMP_SEQUENCE_OF(PIL_AC_SYNTAX, authority, GENERAL_NAME, 0),
	ASN1_SEQUENCE_OF(PIL_AC_SYNTAX, values, ASN1_OCTET_STRING),
} static_ASN1_SEQUENCE_END(PIL_AC_SYNTAX)

ASN1_SEQUENCE(PIL_AC_ATTRIBUTE) = {
	ASN1_SIMPLE(PIL_AC_ATTRIBUTE, type, ASN1_OBJECT),
	ASN1_SET_OF(PIL_AC_ATTRIBUTE, values, PIL_AC_SYNTAX),
} static_ASN1_SEQUENCE_END(PIL_AC_ATTRIBUTE)

ASN1_SEQUENCE(PIL_AC_INFO) = {
	ASN1_SIMPLE(PIL_AC_INFO, version, ASN1_INTEGER),
	ASN1_SIMPLE(PIL_AC_INFO, holder, PIL_AC_HOLDER),
	ASN1_IMP(PIL_AC_INFO, issuer, PIL_AC_ISSUER, 0),
	ASN1_SIMPLE(PIL_AC_INFO, algorithm, X509_ALGOR),
	ASN1_SIMPLE(PIL_AC_INFO, serial, ASN1_INTEGER),
	ASN1_SIMPLE(PIL_AC_INFO, validity, PIL_AC_VALIDITY),
	ASN1_SEQUENCE_OF(PIL_AC_INFO, attributes, PIL_AC_ATTRIBUTE),
	ASN1_SEQUENCE_OF(PIL_AC_INFO, extensions, X509_EXTENSION),
} static_ASN1_SEQUENCE_END(PIL_AC_INFO)

ASN1_SEQUENCE(PIL_AC) = {
	ASN1_SIMPLE(PIL_AC, info, PIL_AC_INFO),
	ASN1_SIMPLE(PIL_AC, algorithm, X509_ALGOR),
	ASN1_SIMPLE(PIL_AC, signature, ASN1_BIT_STRING),
} static_ASN1_SEQUENCE_END(PIL_AC)

ASN1_SEQUENCE(PIL_AC_LIST) = {
	ASN1_SEQUENCE_OF(PIL_AC_LIST, acs, PIL_AC),
} static_ASN1_SEQUENCE_END(PIL_AC_LIST)

/* Certificates stay raw here, to be read like all others. */
typedef struct {
	STACK_OF(ASN1_TYPE)	*certs;
} PIL_AC_CERTS;

ASN1_SEQUENCE(PIL_AC_CERTS) = {
	ASN1_SEQUENCE_OF(PIL_AC_CERTS, certs, ASN1_ANY),
} static_ASN1_SEQUENCE_END(PIL_AC_CERTS)

/* VOMS's targets: one SEQUENCE more around each than RFC 5755 has. */
typedef struct {
	GENERAL_NAME	*name;
} PIL_AC_TARGET;
DEFINE_STACK_OF(PIL_AC_TARGET)

ASN1_SEQUENCE(PIL_AC_TARGET) = {
	ASN1_EXP(PIL_AC_TARGET, name, GENERAL_NAME, 0),
} static_ASN1_SEQUENCE_END(PIL_AC_TARGET)

typedef struct {
	STACK_OF(PIL_AC_TARGET)	*targets;
} PIL_AC_TARGETS;

ASN1_SEQUENCE(PIL_AC_TARGETS) = {
	ASN1_SEQUENCE_OF(PIL_AC_TARGETS, targets, PIL_AC_TARGET),
} static_ASN1_SEQUENCE_END(PIL_AC_TARGETS)

static ASN1_VALUE *
exact(const ASN1_OCTET_STRING *bytes, const ASN1_ITEM *item)
{
	const unsigned char *der = ASN1_STRING_get0_data(bytes), *at = der;
	unsigned char *again = NULL;
	int len = ASN1_STRING_length(bytes), n;
	ASN1_VALUE *value;

	if (len <= 0 || (size_t)len > PIL_VOMS_BYTES)
		return NULL;
	if ((value = ASN1_item_d2i(NULL, &at, len, item)) == NULL)
		return NULL;
	n = ASN1_item_i2d(value, &again, item);
	if (at != der + len || n != len ||
	    memcmp(again, der, (size_t)len) != 0) {
		ASN1_item_free(value, item);
		value = NULL;
	}
	OPENSSL_free(again);
	return value;
}

PIL_AC_LIST *
pil_ac_list(const ASN1_OCTET_STRING *bytes)
{
	return (PIL_AC_LIST *)exact(bytes, ASN1_ITEM_rptr(PIL_AC_LIST));
}

void
pil_ac_list_free(PIL_AC_LIST *list)
{
	ASN1_item_free((ASN1_VALUE *)list, ASN1_ITEM_rptr(PIL_AC_LIST));
}

static X509 *
one_certificate(const ASN1_TYPE *any)
{
	const ASN1_STRING *raw;
	size_t len, used;
	X509 *x;

	if (ASN1_TYPE_get(any) != V_ASN1_SEQUENCE)
		return NULL;
	raw = any->value.sequence;
	len = (size_t)ASN1_STRING_length(raw);
	x = pil_certificate(ASN1_STRING_get0_data(raw), len, &used);
	if (x != NULL && used != len) {
		X509_free(x);
		return NULL;
	}
	return x;
}

/* The certificates that an attribute certificate carries; NULL: malformed. */
STACK_OF(X509) *
pil_ac_certs(const ASN1_OCTET_STRING *bytes, int *too_many)
{
	PIL_AC_CERTS *list;
	STACK_OF(X509) *out = sk_X509_new_null();
	int i, n, good;

	*too_many = 0;
	list = (PIL_AC_CERTS *)exact(bytes, ASN1_ITEM_rptr(PIL_AC_CERTS));
	n = list == NULL ? 0 : sk_ASN1_TYPE_num(list->certs);
	*too_many = n > PIL_VOMS_CERTS;
	good = out != NULL && n > 0 && !*too_many;
	for (i = 0; good && i < n; i++) {
		X509 *x = one_certificate(sk_ASN1_TYPE_value(list->certs, i));

		good = x != NULL && sk_X509_push(out, x) > 0;
		if (!good)
			X509_free(x);
	}
	ASN1_item_free((ASN1_VALUE *)list, ASN1_ITEM_rptr(PIL_AC_CERTS));
	if (!good) {
		sk_X509_pop_free(out, X509_free);
		return NULL;
	}
	return out;
}

/* 1: the host is among the targets; 0: it is not, or they are malformed. */
int
pil_ac_target(const ASN1_OCTET_STRING *bytes, const char *host)
{
	PIL_AC_TARGETS *list;
	int i, n, found = 0;

	list = (PIL_AC_TARGETS *)exact(bytes, ASN1_ITEM_rptr(PIL_AC_TARGETS));
	n = list == NULL ? 0 : sk_PIL_AC_TARGET_num(list->targets);
	for (i = 0; i < n && host != NULL && *host != '\0'; i++) {
		const GENERAL_NAME *name =
		    sk_PIL_AC_TARGET_value(list->targets, i)->name;
		const ASN1_STRING *uri;

		if (name->type != GEN_URI)
			continue;
		uri = name->d.uniformResourceIdentifier;
		if ((size_t)ASN1_STRING_length(uri) == strlen(host) &&
		    strncasecmp((const char *)ASN1_STRING_get0_data(uri), host,
		    strlen(host)) == 0)
			found = 1;
	}
	ASN1_item_free((ASN1_VALUE *)list, ASN1_ITEM_rptr(PIL_AC_TARGETS));
	return found;
}

int
pil_ac_signed(const PIL_AC *ac, EVP_PKEY *key)
{
	return ASN1_item_verify_ex(ASN1_ITEM_rptr(PIL_AC_INFO), ac->algorithm,
	    ac->signature, ac->info, NULL, key, pil_library(), NULL) == 1;
}
