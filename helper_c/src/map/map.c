/*
 * From a verified identity to a local account.
 *
 * Bans come before anything else. Then the proxy's FQANs in their order, then
 * the DN: the first line of the map file that fits and names something usable
 * decides, and what it names is used or refused; there is no second choice.
 */
#include <string.h>

#include "base/names.h"
#include "base/sha256.h"
#include "base/text.h"
#include "base/words.h"
#include "map/account.h"
#include "map/gridmapdir.h"
#include "map/map.h"
#include "map/mapfile.h"

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
check_bans(const struct pil_task *task)
{
	const struct pil_identity *who = &task->request->who;
	const char *key = NULL, *rest;
	struct pil_mapfile bans;
	enum pil_reason reason;
	uint32_t i;
	int banned = 0;

	if (task->config->ban_file == NULL)
		return PIL_OK;
	reason = pil_mapfile_read(&bans, task->config->ban_file, PIL_BAN_MAP,
	    task->config->any_owner, task->map->detail);
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
	pil_detail(task->map->detail, "%s is banned here", who->dn);
	return PIL_OWNER_BANNED;
}

/* The first name of the list that this configuration can use. */
static int
usable(const struct pil_task *task, const char *maps, char *name, size_t size)
{
	while (pil_word_next(&maps, name, size))
		if (name[0] != '.' || task->config->gridmapdir != NULL)
			return 1;
	return 0;
}

/* Find the line for the FQAN, or for the DN when fqan is NULL. */
static int
find(const struct pil_task *task, const struct pil_mapfile *file,
    const char *fqan, char *name, size_t size)
{
	const char *key = NULL, *maps;
	int fits;

	while (pil_mapfile_next(file, &key, &maps)) {
		if (fqan != NULL)
			fits = !pil_is_dn(key) && pil_fqan_match(key, fqan);
		else
			fits = pil_is_dn(key) &&
			    dn_fits(key, task->request->who.dn, 0);
		if (fits && usable(task, maps, name, size))
			return 1;
	}
	return 0;
}

static enum pil_reason
choose(const struct pil_task *task, const struct pil_mapfile *file)
{
	const struct pil_identity *who = &task->request->who;
	char name[PIL_ACCOUNT_SIZE + 1];
	uint32_t i;

	for (i = 0; i < who->fqan_count; i++)
		if (find(task, file, who->fqan[i], name, sizeof(name)))
			break;
	if (i == who->fqan_count &&
	    !find(task, file, NULL, name, sizeof(name))) {
		pil_detail(task->map->detail, "no line of %s fits %s",
		    task->config->grid_mapfile, who->dn);
		return PIL_NO_MAPPING;
	}
	if (name[0] == '.')
		return pil_lease(task, name + 1,
		    i < who->fqan_count ? name + 1 : NULL);
	return pil_account(task, name);
}

enum pil_reason
pil_map(const struct pil_map_config *config,
    const struct pil_map_request *request, struct pil_mapping *map)
{
	const struct pil_task task = { config, request, map };
	struct pil_mapfile file;
	enum pil_reason reason;

	memset(map, 0, sizeof(*map));
	if ((reason = check_bans(&task)) != PIL_OK)
		return reason;
	reason = pil_mapfile_read(&file, config->grid_mapfile, PIL_GRID_MAP,
	    config->any_owner, map->detail);
	if (reason != PIL_OK)
		return reason;
	reason = choose(&task, &file);
	pil_mapfile_free(&file);
	if (reason == PIL_OK && request->expect[0] != '\0' &&
	    strcmp(request->expect, map->account) != 0) {
		pil_detail(map->detail, "%s maps to %s, not to %s",
		    request->who.dn, map->account, request->expect);
		return PIL_ACCOUNT_CHANGED;
	}
	return reason;
}

enum pil_reason
pil_map_check_files(const struct pil_map_config *config, char *detail)
{
	struct pil_mapfile file;
	enum pil_reason reason;

	reason = pil_mapfile_read(&file, config->grid_mapfile, PIL_GRID_MAP,
	    config->any_owner, detail);
	if (reason != PIL_OK)
		return reason;
	pil_mapfile_free(&file);
	if (config->ban_file == NULL)
		return PIL_OK;
	reason = pil_mapfile_read(&file, config->ban_file, PIL_BAN_MAP,
	    config->any_owner, detail);
	if (reason == PIL_OK)
		pil_mapfile_free(&file);
	return reason;
}
