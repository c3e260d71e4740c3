/*
 * grid-mapfile and ban file, read both ways from one input; each key is then
 * matched as the mapping does.
 */
#include <sys/mman.h>

#include <string.h>
#include <unistd.h>

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
		MUST(map->kind == PIL_BAN_MAP || n > 0);
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static const enum pil_mapkind kinds[] = { PIL_GRID_MAP, PIL_BAN_MAP };
	static int fd = -1;
	char path[32], detail[PIL_DETAIL_SIZE];
	struct pil_mapfile map;
	size_t i;

	if (fd == -1)
		fd = memfd_create("map", 0);
	MUST(fd != -1 && ftruncate(fd, 0) == 0);
	MUST(pwrite(fd, data, len, 0) == (ssize_t)len);
	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	for (i = 0; i < 2; i++)
		if (pil_mapfile_read(&map, path, kinds[i], 1, detail) ==
		    PIL_OK) {
			walk(&map);
			pil_mapfile_free(&map);
		} else
			MUST(strlen(detail) < sizeof(detail));
	return 0;
}
