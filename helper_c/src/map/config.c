/*
 * [map] of helper.conf; pilotage-exec judges the other sections.
 */
#include <stddef.h>
#include <string.h>

#include "base/ini.h"
#include "base/settings.h"
#include "base/text.h"
#include "base/trusted.h"
#include "map/config.h"

#define CONFIG_MAX	(64 * 1024)

static const struct pil_setting keys[] = {
#define AT(field)	offsetof(struct pil_map_config, field)
	{ "grid_mapfile", PIL_PATH, AT(grid_mapfile), 0, 0, { NULL } },
	{ "gridmapdir", PIL_PATH, AT(gridmapdir), 0, 0, { NULL } },
	{ "ban_file", PIL_PATH, AT(ban_file), 0, 0, { NULL } },
#undef AT
};

#define NKEYS	(sizeof(keys) / sizeof(keys[0]))

struct reader {
	struct pil_map_config *config;
	uint64_t	 seen;
	int		 sections;
};

static const char *
take(void *arg, char *section, char *key, char *value)
{
	struct reader *reader = arg;

	if (strcmp(section, "map") != 0)
		return NULL;
	if (key == NULL)
		return reader->sections++ ? "repeated section" : NULL;
	return pil_setting_take(keys, NKEYS, &reader->seen, reader->config,
	    key, value);
}

static const char *
wrong_with(const struct pil_map_config *config)
{
	if (config->grid_mapfile == NULL)
		return "[map] has no grid_mapfile";
	return NULL;
}

enum pil_reason
pil_map_config_load(struct pil_map_config *config, const char *path,
    int any_owner, char *detail)
{
	struct reader reader = { .config = config };
	char wrong[PIL_DETAIL_SIZE], *text;
	const char *what;
	size_t len;

	memset(config, 0, sizeof(*config));
	config->any_owner = any_owner;
	if (pil_read_trusted(path, any_owner, CONFIG_MAX, &text, &len,
	    detail) == -1)
		return PIL_HELPER_CONFIG_UNUSABLE;
	if (pil_ini_parse(text, len, take, &reader, wrong) == -1)
		pil_detail(detail, "%s: %s", path, wrong);
	else if ((what = wrong_with(config)) != NULL)
		pil_detail(detail, "%s: %s", path, what);
	else
		return PIL_OK;
	return PIL_HELPER_CONFIG_INVALID;
}
