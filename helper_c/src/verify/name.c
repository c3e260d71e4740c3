/*
 * Names in the slash form of grid-mapfile, .lsc and signing_policy. The form
 * has no quoting, so a name is refused when its text could be read as another
 * name: an RDN of several attributes, "/X=" or a backslash inside a value, a
 * control character, or a string type whose bytes are not its text.
 */
#include <stdio.h>
#include <string.h>

#include <openssl/objects.h>
#include <openssl/x509.h>

#include "verify/core.h"

struct text {
	char	*out;
	size_t	 size;
	size_t	 len;
};

static int
put(struct text *t, const char *piece, size_t len)
{
	if (len >= t->size - t->len)
		return 0;
	memcpy(t->out + t->len, piece, len);
	t->len += len;
	t->out[t->len] = '\0';
	return 1;
}

static int
word(unsigned char c)
{
	return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
	    (c >= '0' && c <= '9') || c == '.' || c == '-' || c == '_';
}

/* Whether the bytes, from a slash on, read as the start of an attribute. */
static int
looks_like_attribute(const unsigned char *p, size_t len)
{
	size_t i;

	for (i = 1; i < len && word(p[i]); i++)
		continue;
	return i > 1 && i < len && p[i] == '=';
}

/* Well-formed UTF-8, shortest forms only, no surrogates (RFC 3629). */
static int
utf8(const unsigned char *p, size_t len)
{
	size_t i, n;

	for (i = 0; i < len; i += n) {
		unsigned char c = p[i], low = 0x80, high = 0xbf;
		size_t k;

		if (c < 0x80) {
			n = 1;
			continue;
		}
		n = c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : 2;
		if (c < 0xc2 || c > 0xf4 || len - i < n)
			return 0;
		if (c == 0xe0)
			low = 0xa0;
		else if (c == 0xed)
			high = 0x9f;
		else if (c == 0xf0)
			low = 0x90;
		else if (c == 0xf4)
			high = 0x8f;
		if (p[i + 1] < low || p[i + 1] > high)
			return 0;
		for (k = 2; k < n; k++)
			if ((p[i + k] & 0xc0) != 0x80)
				return 0;
	}
	return 1;
}

static int
text_type(int type, const unsigned char *p, size_t len)
{
	switch (type) {
	case V_ASN1_PRINTABLESTRING:
	case V_ASN1_IA5STRING:
	case V_ASN1_VISIBLESTRING:
	case V_ASN1_NUMERICSTRING:
	case V_ASN1_T61STRING:
		return 1;
	case V_ASN1_UTF8STRING:
		return utf8(p, len);
	default:
		return 0;
	}
}

static int
put_value(struct text *t, const ASN1_STRING *s)
{
	const unsigned char *p = ASN1_STRING_get0_data(s);
	size_t len = (size_t)ASN1_STRING_length(s), i;
	char escape[8];

	if (len == 0 || !text_type(ASN1_STRING_type(s), p, len))
		return 0;
	for (i = 0; i < len; i++) {
		if (p[i] < ' ' || p[i] == 0x7f)
			return 0;
		if (p[i] == '/' && looks_like_attribute(p + i, len - i))
			return 0;
		if (p[i] == '\\')
			return 0;
		if (p[i] > '~') {
			(void)snprintf(escape, sizeof(escape), "\\x%02X", p[i]);
			if (!put(t, escape, 4))
				return 0;
		} else if (!put(t, (const char *)p + i, 1))
			return 0;
	}
	return 1;
}

/*
 * The types that have a name here; all others are written as dotted numbers.
 * A list, since a host process can teach OpenSSL further names.
 */
static const char *
type_name(const ASN1_OBJECT *type)
{
	static const int named[] = {
		NID_countryName, NID_organizationName,
		NID_organizationalUnitName, NID_commonName,
		NID_domainComponent, NID_userId, NID_pkcs9_emailAddress,
		NID_localityName, NID_stateOrProvinceName, NID_serialNumber,
		NID_surname, NID_givenName, NID_initials, NID_title,
		NID_name, NID_dnQualifier, NID_pseudonym,
		NID_streetAddress, NID_postalCode, NID_description,
		NID_businessCategory, NID_generationQualifier,
		NID_organizationIdentifier, NID_pkcs9_unstructuredName,
	};
	int nid = OBJ_obj2nid(type);
	size_t i;

	for (i = 0; i < sizeof(named) / sizeof(named[0]); i++)
		if (named[i] == nid)
			return OBJ_nid2sn(nid);
	return NULL;
}

static int
put_type(struct text *t, const ASN1_OBJECT *type)
{
	const char *name = type_name(type);
	char dotted[80];
	int n;

	if (name == NULL) {
		n = OBJ_obj2txt(dotted, sizeof(dotted), type, 1);
		if (n <= 0 || (size_t)n >= sizeof(dotted))
			return 0;
		name = dotted;
	}
	return put(t, "/", 1) && put(t, name, strlen(name)) && put(t, "=", 1);
}

/* 1 and the slash form, or 0 when the name has no unambiguous one. */
int
pil_name_slash(const X509_NAME *name, char *out, size_t size)
{
	struct text t = { out, size, 0 };
	int i, n = X509_NAME_entry_count(name), set = -1;

	out[0] = '\0';
	for (i = 0; i < n; i++) {
		const X509_NAME_ENTRY *e = X509_NAME_get_entry(name, i);

		if (X509_NAME_ENTRY_set(e) == set)
			return 0;
		set = X509_NAME_ENTRY_set(e);
		if (!put_type(&t, X509_NAME_ENTRY_get_object(e)) ||
		    !put_value(&t, X509_NAME_ENTRY_get_data(e)))
			return 0;
	}
	return t.len > 0;
}

/* For a person: the end of the name, whatever is in it. */
void
pil_name_show(const X509_NAME *name, char out[PIL_SHOW_SIZE])
{
	char text[PIL_DN_SIZE];
	size_t len, room = PIL_SHOW_SIZE - 1, skip = 0;

	if (!pil_name_slash(name, text, sizeof(text)))
		memcpy(text, "(a name that has no text)", 26);
	len = strlen(text);
	if (len > room)
		skip = len - room;
	memcpy(out, text + skip, len - skip + 1);
	if (skip > 0)
		out[0] = out[1] = out[2] = '.';
}

/* Byte for byte, as RFC 3820 and RFC 5755 names are compared here. */
int
pil_name_same(const X509_NAME *a, const X509_NAME *b)
{
	const unsigned char *p, *q;
	size_t n, m;

	if (X509_NAME_get0_der(a, &p, &n) != 1 ||
	    X509_NAME_get0_der(b, &q, &m) != 1)
		return 0;
	return n == m && memcmp(p, q, n) == 0;
}
