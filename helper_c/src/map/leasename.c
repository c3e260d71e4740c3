/*
 * Names in a gridmapdir: accounts, and leases with an encoded DN.
 */
#include <ctype.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/names.h"
#include "base/sha256.h"
#include "base/words.h"
#include "map/leasename.h"
#include "pilotage/map.h"

#define DIGEST_LENGTH	64	/* of a SHA-256 in hex */

/* Room for every byte as %xx. */
static size_t
encode(const char *plain, int lower, char *out)
{
	size_t at = 0;

	for (; *plain != '\0'; plain++) {
		unsigned char c = (unsigned char)*plain;

		if (lower && c < 128)
			c = (unsigned char)tolower(c);
		if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'))
			out[at++] = (char)c;
		else
			at += (size_t)snprintf(out + at, 4, "%%%02x", c);
	}
	out[at] = '\0';
	return at;
}

int
pil_lease_name(const char *dn, const char *suffix, enum pil_lease_names how,
    char *out, size_t size)
{
	char plain[PIL_CANONICAL_SIZE], encoded[3 * PIL_CANONICAL_SIZE];
	size_t at, room, tail = suffix != NULL ? strlen(suffix) + 1 : 0;
	uint8_t digest[32];

	if (pil_dn_canonical(dn, plain, sizeof(plain)) == -1 ||
	    strlen(dn) >= sizeof(plain) ||
	    tail > NAME_MAX - DIGEST_LENGTH - 16)
		return -1;
	at = encode(how == PIL_LEASES_LCMAPS ? dn : plain,
	    how == PIL_LEASES_LCMAPS, encoded);
	/* A name too long for a file keeps its beginning and a digest. */
	room = NAME_MAX - tail;
	if (at > room) {
		pil_sha256(plain, strlen(plain), digest);
		at = room - DIGEST_LENGTH - 2;
		encoded[at++] = '%';
		encoded[at++] = '%';
		pil_hex(digest, sizeof(digest), encoded + at);
	}
	at = (size_t)snprintf(out, size, "%s%s%s", encoded, tail ? ":" : "",
	    tail ? suffix : "");
	return at < size ? 0 : -1;
}

int
pil_lease_owner(const char *dn, char hex[65])
{
	char plain[PIL_CANONICAL_SIZE];
	uint8_t digest[32];

	if (pil_dn_canonical(dn, plain, sizeof(plain)) == -1)
		return -1;
	pil_sha256(plain, strlen(plain), digest);
	pil_hex(digest, sizeof(digest), hex);
	return 0;
}

int
pil_in_pool(const char *entry, const char *pool)
{
	size_t len = strlen(pool);

	if (strncmp(entry, pool, len) != 0 || entry[len] == '\0')
		return 0;
	return strspn(entry + len, "0123456789") == strlen(entry + len);
}

int
pil_by_number(const char *left, const char *right)
{
	size_t a = strlen(left), b = strlen(right);

	if (a != b)
		return a < b ? -1 : 1;
	return strcmp(left, right);
}

int
pil_is_account_file(const char *entry)
{
	size_t len = strlen(entry);

	return entry[0] != '.' && len < PIL_ACCOUNT_SIZE &&
	    pil_is_account(entry, len);
}

int
pil_is_lease(const char *entry)
{
	return entry[0] == '%';
}
