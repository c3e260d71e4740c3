/*
 * From a verified identity to a local account.
 *
 * Bans come before anything else. Then the proxy's FQANs in their order, then
 * the DN: the first line of the map file that fits and names something usable
 * decides, and what it names is used or refused; there is no second choice.
 */
#include <string.h>

#include "base/account.h"
#include "base/gridmapdir.h"
#include "base/mapfile.h"
#include "base/names.h"
#include "base/text.h"

/* Take the escapes away: a star after a slash was meant as a component. */
static void
strip(char *name)
{
	char *out = name;

	for (; *name != '\0'; name++)
		if (*name != '\\')
			*out++ = *name;
	*out = '\0';
}

/*
 * A banned DN may have wildcards that cross slashes, unlike a mapped one. To
 * ban one name too many is the safe mistake, so escapes do not count there.
 */
static int
dn_fits(const char *key, const char *dn, int wildcards)
{
	char left[PIL_CANONICAL_SIZE], right[PIL_CANONICAL_SIZE];

	if (pil_dn_canonical(key, left, sizeof(left)) == -1 ||
	    pil_dn_canonical(dn, right, sizeof(right)) == -1)
		return 0;
	if (!wildcards)
		return strcmp(left, right) == 0;
	strip(left);
	strip(right);
	return pil_glob(left, right);
}

static enum pil_reason
check_bans(const struct pil_map_options *options,
    const struct pil_identity *who, struct pil_mapping *map)
{
	const char *key = NULL, *rest;
	struct pil_mapfile bans;
	enum pil_reason reason;
	uint32_t i;
	int banned = 0;

	if (options->ban_file == NULL)
		return PIL_OK;
	reason = pil_mapfile_read(&bans, options->ban_file, PIL_BAN_MAP,
	    options->trust_any_owner, map->detail);
	if (reason != PIL_OK)
		return reason;
	while (!banned && pil_mapfile_next(&bans, &key, &rest)) {
		if (pil_is_dn(key))
			banned = dn_fits(key, who->dn, 1);
		for (i = 0; i < who->fqan_count && !banned; i++)
			banned = pil_fqan_match(key, who->fqan[i]);
	}
	pil_mapfile_free(&bans);
	if (!banned)
		return PIL_OK;
	pil_detail(map->detail, "%s is banned here", who->dn);
	return PIL_OWNER_BANNED;
}

/* The first name of the list that this configuration can use. */
static int
usable(const struct pil_map_options *options, const char *maps, char *name,
    size_t size)
{
	while (pil_mapping_next(&maps, name, size))
		if (name[0] != '.' || options->gridmapdir != NULL)
			return 1;
	return 0;
}

/* Find the line for the FQAN, or for the DN when fqan is NULL. */
static int
find(const struct pil_map_options *options, const struct pil_mapfile *file,
    const char *dn, const char *fqan, char *name, size_t size)
{
	const char *key = NULL, *maps;
	int fits;

	while (pil_mapfile_next(file, &key, &maps)) {
		if (fqan != NULL)
			fits = !pil_is_dn(key) && pil_fqan_match(key, fqan);
		else
			fits = pil_is_dn(key) && dn_fits(key, dn, 0);
		if (fits && usable(options, maps, name, size))
			return 1;
	}
	return 0;
}

static enum pil_reason
choose(const struct pil_map_options *options, const struct pil_identity *who,
    const struct pil_mapfile *file, struct pil_mapping *map)
{
	char name[PIL_ACCOUNT_SIZE + 1];
	uint32_t i;

	for (i = 0; i < who->fqan_count; i++)
		if (find(options, file, who->dn, who->fqan[i], name,
		    sizeof(name)))
			break;
	if (i == who->fqan_count &&
	    !find(options, file, who->dn, NULL, name, sizeof(name))) {
		pil_detail(map->detail, "no line of %s fits %s",
		    options->grid_mapfile, who->dn);
		return PIL_NO_MAPPING;
	}
	if (name[0] == '.')
		return pil_lease(options, name + 1, who->dn,
		    i < who->fqan_count, map);
	return pil_account(options, name, map);
}

enum pil_reason
pil_map(const struct pil_map_options *options, const struct pil_identity *who,
    struct pil_mapping *map)
{
	struct pil_mapfile file;
	enum pil_reason reason;

	memset(map, 0, sizeof(*map));
	if (who->fqan_count > PIL_FQAN_MAX || options->grid_mapfile == NULL)
		return PIL_NO_MAPPING;
	if ((reason = check_bans(options, who, map)) != PIL_OK)
		return reason;
	reason = pil_mapfile_read(&file, options->grid_mapfile, PIL_GRID_MAP,
	    options->trust_any_owner, map->detail);
	if (reason != PIL_OK)
		return reason;
	reason = choose(options, who, &file, map);
	pil_mapfile_free(&file);
	if (reason == PIL_OK)
		map->detail[0] = '\0';
	return reason;
}
