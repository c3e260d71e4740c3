/*
 * Map, group and ban files and the list of allowed users, read all ways from
 * one input; each key is then matched as the mapping does.
 */
#include <string.h>

#include "base/names.h"
#include "base/words.h"
#include "fuzz.h"
#include "map/mapfile.h"

static void
is_good_key(const char *key)
{
	char out[PIL_CANONICAL_SIZE];

	if (pil_is_dn(key))
		MUST(pil_dn_canonical(key, out, sizeof(out)) == 0 &&
		    pil_dn_equal(key, key));
	else
		MUST(pil_fqan_normalise(key, out, PIL_NAME_SIZE) == 0);
	(void)pil_fqan_match(key, "/demo/analysis/Role=production");
}

static void
walk(const struct pil_mapfile *map)
{
	const char *key = NULL, *rest;
	char name[PIL_ACCOUNT_SIZE + 1];
	size_t n;

	while (pil_mapfile_next(map, &key, &rest)) {
		is_good_key(key);
		for (n = 0; pil_word_next(&rest, name, sizeof(name)); n++) {
			const char *bare = name[0] == '.' ? name + 1 : name;

			MUST(pil_is_account(bare, strlen(bare)));
			MUST(strchr(bare, '/') == NULL);
		}
		MUST(n > 0 || map->kind == PIL_BAN_MAP ||
		    map->kind == PIL_ALLOW_MAP);
		MUST(map->kind != PIL_GROUP_MAP || !pil_is_dn(key));
		MUST(map->kind != PIL_ALLOW_MAP || pil_is_dn(key));
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static const enum pil_mapkind kinds[] = { PIL_GRID_MAP, PIL_GROUP_MAP,
	    PIL_BAN_MAP, PIL_ALLOW_MAP };
	const char *path = fuzz_file(data, len);
	char detail[PIL_DETAIL_SIZE];
	struct pil_mapfile map;
	size_t i;

	for (i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (pil_mapfile_read(&map, path, kinds[i], 1, detail) ==
		    PIL_OK) {
			walk(&map);
			pil_mapfile_free(&map);
		} else
			MUST(strlen(detail) < sizeof(detail));
	return 0;
}
