/*
 * VOMS FQANs: normalised, and compared with a bound. Patterns are in pattern.c,
 * which no privileged program links.
 */
#include <string.h>

#include "base/names.h"

int
pil_fqan_normalise(const char *fqan, char *out, size_t size)
{
	static const char *const nulls[] = { "/Capability=NULL", "/Role=NULL" };
	size_t len = strlen(fqan), i, n;

	if (fqan[0] != '/' || strstr(fqan, "//") != NULL)
		return -1;
	for (i = 0; i < 2; i++) {
		n = strlen(nulls[i]);
		if (len > n && memcmp(fqan + len - n, nulls[i], n) == 0)
			len -= n;
	}
	if (fqan[len - 1] == '/')
		len--;
	if (len < 2 || len >= size)
		return -1;
	memcpy(out, fqan, len);
	out[len] = '\0';
	return 0;
}

int
pil_fqan_below(const char *bound, const char *fqan)
{
	char left[PIL_NAME_SIZE], right[PIL_NAME_SIZE];
	size_t len;

	if (pil_fqan_normalise(bound, left, sizeof(left)) == -1 ||
	    pil_fqan_normalise(fqan, right, sizeof(right)) == -1)
		return 0;
	len = strlen(left);
	return strncmp(left, right, len) == 0 &&
	    (right[len] == '\0' || right[len] == '/');
}
