/*
 * Slash-form DNs, compared attribute by attribute.
 *
 * OpenSSL's one-line form is ambiguous: older releases write a slash inside a
 * value bare, newer ones as "\/". A slash separates attributes only when a
 * type and '=' follow it, so "/CN=host/x.org" is one attribute in both, and
 * "/CN=a\/CN=b" is never taken for two.
 */
#include <ctype.h>
#include <string.h>

#include "base/names.h"

static const struct {
	const char *spelling;
	const char *type;
} aliases[] = {
	{ "Email", "emailAddress" },
	{ "E", "emailAddress" },
	{ "EMAILADDRESS", "emailAddress" },
	{ "USERID", "UID" },
};

/* Length of the attribute type at p when a '=' ends it, else 0. */
static size_t
type_length(const char *p)
{
	size_t n = 0;

	while (isalnum((unsigned char)p[n]) || p[n] == '.' || p[n] == '-')
		n++;
	return p[n] == '=' ? n : 0;
}

static int
put(char *out, size_t size, size_t *at, const char *text, size_t len)
{
	if (len >= size - *at)
		return -1;
	memcpy(out + *at, text, len);
	*at += len;
	out[*at] = '\0';
	return 0;
}

static int
put_type(char *out, size_t size, size_t *at, const char *type, size_t len)
{
	size_t i;

	for (i = 0; i < sizeof(aliases) / sizeof(aliases[0]); i++)
		if (strlen(aliases[i].spelling) == len &&
		    memcmp(aliases[i].spelling, type, len) == 0) {
			type = aliases[i].type;
			len = strlen(type);
			break;
		}
	return put(out, size, at, type, len);
}

static int
hex(int c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = tolower(c);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Read one byte of a value with its escapes; the bytes used, 0: malformed. */
static size_t
unescape(const char *p, char *byte)
{
	int high, low;

	*byte = *p;
	if (*p != '\\')
		return 1;
	if (p[1] == '/' || p[1] == '\\') {
		*byte = p[1];
		return 2;
	}
	if (p[1] != 'x' || (high = hex((unsigned char)p[2])) == -1 ||
	    (low = hex((unsigned char)p[3])) == -1 || high + low == 0)
		return 0;
	*byte = (char)(high * 16 + low);
	return 4;
}

int
pil_dn_canonical(const char *dn, char *out, size_t size)
{
	size_t at = 0, n;
	char byte;

	if (*dn != '/' || type_length(dn + 1) == 0)
		return -1;
	while (*dn != '\0') {
		if (*dn == '/' && (n = type_length(dn + 1)) != 0) {
			if (put(out, size, &at, "/", 1) == -1 ||
			    put_type(out, size, &at, dn + 1, n) == -1 ||
			    put(out, size, &at, "=", 1) == -1)
				return -1;
			dn += n + 2;
			continue;
		}
		if ((n = unescape(dn, &byte)) == 0)
			return -1;
		if ((byte == '/' || byte == '\\') &&
		    put(out, size, &at, "\\", 1) == -1)
			return -1;
		if (put(out, size, &at, &byte, 1) == -1)
			return -1;
		dn += n;
	}
	return 0;
}

int
pil_dn_equal(const char *a, const char *b)
{
	char left[PIL_CANONICAL_SIZE], right[PIL_CANONICAL_SIZE];

	if (pil_dn_canonical(a, left, sizeof(left)) == -1 ||
	    pil_dn_canonical(b, right, sizeof(right)) == -1)
		return 0;
	return strcmp(left, right) == 0;
}

int
pil_is_dn(const char *name)
{
	return *name == '/' && type_length(name + 1) != 0;
}
