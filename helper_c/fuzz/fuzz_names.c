/*
 * DNs and FQANs of untrusted proxies, by themselves and against each other:
 * the input is two names with a line feed between them.
 */
#include <string.h>

#include "base/names.h"
#include "fuzz.h"
#include "map/leasename.h"
#include "pilotage/map.h"

static void
dn(const char *name, const char *other)
{
	char once[PIL_CANONICAL_SIZE], twice[PIL_CANONICAL_SIZE];
	char lease[PIL_LEASE_SIZE], shared[PIL_LEASE_SIZE];
	size_t i;

	if (pil_dn_canonical(name, once, sizeof(once)) == -1) {
		MUST(!pil_dn_equal(name, other));
		return;
	}
	if (pil_dn_canonical(once, twice, sizeof(twice)) == 0)
		MUST(strcmp(once, twice) == 0);
	MUST(pil_dn_equal(name, other) == pil_dn_equal(other, name));
	(void)pil_glob(other, once);
	if (pil_lease_name(name, "pool", PIL_LEASES_STRICT, lease,
	    sizeof(lease)) == -1)
		return;
	MUST(pil_lease_name(name, "pool", PIL_LEASES_LCMAPS, shared,
	    sizeof(shared)) == 0 && shared[0] == '%' && strlen(shared) <= 255);
	/* It becomes a file's name. */
	MUST(lease[0] != '\0' && lease[0] != '.' && strlen(lease) <= 255);
	for (i = 0; lease[i] != '\0'; i++)
		MUST(lease[i] > ' ' && lease[i] <= '~' && lease[i] != '/');
}

static void
fqan(const char *name, const char *pattern)
{
	char out[PIL_NAME_SIZE];

	if (pil_fqan_normalise(name, out, sizeof(out)) == -1) {
		MUST(!pil_fqan_match(pattern, name));
		MUST(!pil_fqan_below(pattern, name));
		return;
	}
	MUST(out[0] == '/' && out[1] != '\0' && strlen(out) <= strlen(name));
	MUST(pil_fqan_below(name, name));
	if (strchr(name, '*') == NULL)
		MUST(pil_fqan_match(name, name));
	(void)pil_fqan_match(pattern, name);
	(void)pil_fqan_below(pattern, name);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	const uint8_t *cut = memchr(data, '\n', len);
	size_t first = cut != NULL ? (size_t)(cut - data) : len;
	char *one = fuzz_string(data, first);
	char *two = fuzz_string(cut != NULL ? cut + 1 : data,
	    cut != NULL ? len - first - 1 : 0);

	dn(one, two);
	dn(two, one);
	fqan(one, two);
	fqan(two, one);
	free(one);
	free(two);
	return 0;
}
