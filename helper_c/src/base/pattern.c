/*
 * Patterns of map and ban files. FQANs are matched on path components, so that
 * a VO's patterns never cover another VO whose name merely begins alike.
 */
#include <string.h>

#include "base/names.h"

int
pil_glob(const char *pattern, const char *text)
{
	const char *star = NULL, *resume = NULL;

	while (*text != '\0') {
		if (*pattern == '*') {
			star = ++pattern;
			resume = text;
		} else if (*pattern == '?' || *pattern == *text) {
			pattern++;
			text++;
		} else if (star != NULL) {
			pattern = star;
			text = ++resume;
		} else
			return 0;
	}
	while (*pattern == '*')
		pattern++;
	return *pattern == '\0';
}

/* Split into components in place; their number, 0: too many. */
static size_t
split(char *name, char *parts[], size_t max)
{
	size_t n = 0;
	char *p = name;

	while (p != NULL && n < max) {
		*p++ = '\0';
		parts[n++] = p;
		p = strchr(p, '/');
	}
	return p == NULL ? n : 0;
}

#define PARTS	(PIL_NAME_SIZE / 2)

/*
 * A component "*" stands for one or more components; a star elsewhere stays
 * inside its component. A star that ends the VO's own component ("/vo*") means
 * that VO and all below it, never "/vo2".
 */
static int
match_parts(char *pattern[], size_t np, char *fqan[], size_t nf)
{
	size_t p = 0, f = 0, star = (size_t)-1, resume = 0, len;

	len = strlen(pattern[0]);
	if (np == 1 && len > 1 && pattern[0][len - 1] == '*') {
		pattern[0][len - 1] = '\0';
		return strcmp(pattern[0], fqan[0]) == 0;
	}
	if (strcmp(pattern[0], "*") != 0 && strcmp(pattern[0], fqan[0]) != 0)
		return 0;
	while (f < nf) {
		if (p < np && strcmp(pattern[p], "*") == 0) {
			star = ++p;
			resume = ++f;
		} else if (p < np && pil_glob(pattern[p], fqan[f])) {
			p++;
			f++;
		} else if (star != (size_t)-1) {
			p = star;
			f = ++resume;
		} else
			return 0;
	}
	return p == np;
}

int
pil_fqan_match(const char *pattern, const char *fqan)
{
	char left[PIL_NAME_SIZE], right[PIL_NAME_SIZE];
	char *pp[PARTS], *fp[PARTS];
	size_t np, nf;

	if (pil_fqan_normalise(pattern, left, sizeof(left)) == -1 ||
	    pil_fqan_normalise(fqan, right, sizeof(right)) == -1)
		return 0;
	if ((np = split(left, pp, PARTS)) == 0 ||
	    (nf = split(right, fp, PARTS)) == 0)
		return 0;
	return match_parts(pp, np, fp, nf);
}
