/*
 * [map] of helper.conf; pilotage-keep judges the other sections.
 */
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/ini.h"
#include "base/settings.h"
#include "base/text.h"
#include "base/trusted.h"
#include "map/config.h"

#define CONFIG_MAX	(64 * 1024)
#define LEASE_KEEP_MIN	60	/* seconds: no run may begin so slowly */

static const struct pil_setting keys[] = {
#define AT(field)	offsetof(struct pil_map_config, field)
	{ "grid_mapfile", PIL_PATH, AT(grid_mapfile), 0, 0, { NULL } },
	{ "voms_mapfile", PIL_PATH, AT(voms_mapfile), 0, 0, { NULL } },
	{ "groupmapfile", PIL_PATH, AT(groupmapfile), 0, 0, { NULL } },
	{ "policy", PIL_WORD, AT(policy_text), 0, 0, { NULL } },
	{ "gridmapdir", PIL_PATH, AT(gridmapdir), 0, 0, { NULL } },
	{ "ban_file", PIL_PATH, AT(ban_file), 0, 0, { NULL } },
	{ "second_ban_file", PIL_PATH, AT(second_ban_file), 0, 0, { NULL } },
	{ "allowed_users", PIL_PATH, AT(allowed_users), 0, 0, { NULL } },
	{ "timeslots", PIL_PATH, AT(timeslots), 0, 0, { NULL } },
	{ "permitted_executables", PIL_PATH, AT(permitted_executables), 0, 0,
	    { NULL } },
	{ "lease_names", PIL_WORDS, AT(lease_names), 0, 2,
	    { "strict", "lcmaps" } },
	{ "lease_keep_seconds", PIL_NUMBER, AT(lease_keep), LEASE_KEEP_MIN,
	    UINT32_MAX, { NULL } },
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

/* Which file a step reads. */
static const char *
file_of(const struct pil_map_config *config, const struct pil_step *step)
{
	switch (step->from) {
	case PIL_FROM_GRID:
		return config->grid_mapfile;
	case PIL_FROM_VOMS:
		return config->voms_mapfile;
	case PIL_FROM_PATH:
		return step->file;
	case PIL_FROM_DEFAULT:
		break;
	}
	return step->by == PIL_BY_FQAN && config->voms_mapfile != NULL ?
	    config->voms_mapfile : config->grid_mapfile;
}

static const char *
judge_step(const struct pil_map_config *config, const struct pil_step *step)
{
	if (step->file == NULL)
		return config->policy_text == NULL ?
		    "[map] has no grid_mapfile" :
		    "the policy asks for a map file that [map] does not name";
	if (step->want == PIL_WANT_POOL && config->gridmapdir == NULL)
		return "the policy asks for a pool, and [map] has no "
		    "gridmapdir";
	if (step->groups != PIL_GROUPS_ACCOUNT && config->groupmapfile == NULL)
		return "the policy asks for groups of FQANs, and [map] has no "
		    "groupmapfile";
	return NULL;
}

static int
same(const char *file, const char *configured)
{
	return configured != NULL && strcmp(file, configured) == 0;
}

/* A file that nothing reads is a mistake that somebody relies on. */
static const char *
unused(const struct pil_map_config *config)
{
	int grid = 0, voms = 0, groups = 0;
	size_t i;

	for (i = 0; i < config->policy.n; i++) {
		const struct pil_step *step = &config->policy.step[i];

		grid |= same(step->file, config->grid_mapfile);
		voms |= same(step->file, config->voms_mapfile);
		groups |= step->groups != PIL_GROUPS_ACCOUNT;
	}
	if (config->grid_mapfile != NULL && !grid)
		return "no step of the policy reads grid_mapfile";
	if (config->voms_mapfile != NULL && !voms)
		return "no step of the policy reads voms_mapfile";
	if (config->groupmapfile != NULL && !groups)
		return "groupmapfile needs a step of the policy with groups "
		    "fqan or groups both";
	return NULL;
}

const char *
pil_map_config_judge(struct pil_map_config *config)
{
	struct pil_policy *policy = &config->policy;
	const char *wrong;
	size_t i;

	config->policy_words = strdup(config->policy_text != NULL ?
	    config->policy_text : PIL_POLICY);
	if (config->policy_words == NULL)
		return "there is no memory";
	wrong = pil_policy_parse(policy, config->policy_words);
	for (i = 0; i < policy->n && wrong == NULL; i++) {
		policy->step[i].file = file_of(config, &policy->step[i]);
		wrong = judge_step(config, &policy->step[i]);
	}
	return wrong != NULL ? wrong : unused(config);
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
	else if ((what = pil_map_config_judge(config)) != NULL)
		pil_detail(detail, "%s: %s", path, what);
	else
		return PIL_OK;
	return PIL_HELPER_CONFIG_INVALID;
}
