/*
 * helper.conf. One table of keys; an unknown or repeated one is an error, and
 * so is a value that is not exactly of its kind.
 */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/ini.h"
#include "base/settings.h"
#include "base/text.h"
#include "base/trusted.h"
#include "base/words.h"
#include "keep/config.h"

#define CONFIG_MAX	(64 * 1024)
#define MIB		(1024 * 1024)
#define LIFE_LIMIT	(10 * 366 * 86400)
#define SIZE_LIMIT	(1ull << 60)
#define CALLER	"caller "

static const struct pil_setting helper_keys[] = {
#define AT(field)	offsetof(struct config, field)
	{ "ca_dir", PIL_PATH, AT(ca_dir), 0, 0, { NULL } },
	{ "voms_dir", PIL_PATH, AT(voms_dir), 0, 0, { NULL } },
	{ "audit_file", PIL_PATH, AT(audit_file), 0, 0, { NULL } },
	{ "verify_user", PIL_WORD, AT(verify_user), 0, 0, { NULL } },
	{ "min_uid", PIL_NUMBER, AT(min_uid), 1, PIL_ID_MAX, { NULL } },
	{ "min_gid", PIL_NUMBER, AT(min_gid), 1, PIL_ID_MAX, { NULL } },
	{ "term_grace_seconds", PIL_NUMBER, AT(term_grace), 0, 3600, { NULL } },
	{ "clock_skew_seconds", PIL_NUMBER, AT(clock_skew), 0, 3600, { NULL } },
	{ "max_proxy_lifetime_seconds", PIL_NUMBER, AT(max_proxy_life), 60,
	    LIFE_LIMIT, { NULL } },
	{ "max_voms_lifetime_seconds", PIL_NUMBER, AT(max_voms_life), 60,
	    LIFE_LIMIT, { NULL } },
	{ "syslog", PIL_WORDS, AT(syslog), 0, 2, { "no", "yes", NULL } },
	{ "require_crl", PIL_WORDS, AT(require_crl), 0, 2, { "no", "yes", NULL } },
	{ "limited_proxies", PIL_WORDS, AT(refuse_limited), 0, 2,
	    { "accept", "refuse", NULL } },
	{ "legacy_proxies", PIL_WORDS, AT(accept_old), 0, 2,
	    { "refuse", "accept", NULL } },
	{ "no_new_privs", PIL_WORDS, AT(no_new_privs), 0, 2, { "no", "yes", NULL } },
	{ "cgroup", PIL_WORDS, AT(cgroup), 0, 3, { "auto", "required", "off" } },
	{ "mode", PIL_WORDS, AT(log_only), 0, 2, { "switch", "log-only", NULL } },
	{ "legacy_log", PIL_WORDS, AT(old_log), 0, 2, { "no", "yes", NULL } },
	{ "legacy_log_file", PIL_PATH, AT(old_file), 0, 0, { NULL } },
};

static const struct pil_setting isolation_keys[] = {
	{ "namespaces", PIL_WORDS, AT(namespaces), 0, 3,
	    { "off", "auto", "required" } },
	{ "tmp_bytes", PIL_SIZE, AT(tmp_bytes), MIB, SIZE_LIMIT, { NULL } },
	{ "memory_bytes", PIL_SIZE, AT(bounds[TREE_MEMORY]), MIB, SIZE_LIMIT,
	    { NULL } },
	{ "pids", PIL_SIZE, AT(bounds[TREE_PIDS]), 2, 4194304, { NULL } },
	{ "cpu_percent", PIL_SIZE, AT(bounds[TREE_CPU]), 1, 1000000, { NULL } },
	{ "cgroup_parent", PIL_PATH, AT(cgroup_parent), 0, 0, { NULL } },
#undef AT
};

static const struct section {
	const char	*name;
	const struct pil_setting *keys;
	size_t		 n;
} sections[] = {
#define KEYS(keys)	(keys), sizeof(keys) / sizeof((keys)[0])
	{ "helper", KEYS(helper_keys) },
	{ "isolation", KEYS(isolation_keys) },
	{ "map", NULL, 0 },
#undef KEYS
};

#define NSECTIONS	(sizeof(sections) / sizeof(sections[0]))

struct reader {
	struct config	*config;
	struct caller	*caller;	/* whose section it is; NULL: another */
	size_t		 section;	/* then, which */
	uint64_t	 seen[NSECTIONS];	/* its keys */
	unsigned	 sections;	/* a bit for each that has been */
};

static const char *
take_caller_key(struct caller *caller, const char *name, char *value)
{
	const char **field;
	int word = 0;

	if (strcmp(name, "vos") == 0)
		field = &caller->vos;
	else if (strcmp(name, "fqans") == 0)
		field = &caller->fqans;
	else if (strcmp(name, "accounts") == 0)
		field = &caller->accounts;
	else if ((word = strcmp(name, "glexec") == 0))
		field = &caller->glexec;
	else if ((word = strcmp(name, "without_vo") == 0))
		field = &caller->without_vo;
	else
		return "unknown key";
	if (word && strcmp(value, "yes") != 0 && strcmp(value, "no") != 0)
		return "the value is neither yes nor no";
	if (*field != NULL)
		return "repeated key";
	if (*value == '\0')
		return "the value is empty";
	*field = value;
	return NULL;
}

static const char *
take_section(struct reader *reader, const char *section)
{
	struct config *config = reader->config;
	const char *name;
	size_t i;

	for (i = 0; i < NSECTIONS; i++) {
		if (strcmp(section, sections[i].name) != 0)
			continue;
		reader->caller = NULL;
		reader->section = i;
		if (reader->sections & 1u << i)
			return "repeated section";
		reader->sections |= 1u << i;
		return NULL;
	}
	if (strncmp(section, CALLER, strlen(CALLER)) != 0)
		return "unknown section";
	name = section + strlen(CALLER);
	if (*name == '\0' || strpbrk(name, " \t") != NULL)
		return "[caller NAME] needs one account's name";
	for (i = 0; i < config->ncallers; i++)
		if (strcmp(config->callers[i].name, name) == 0)
			return "repeated section";
	if (config->ncallers == PIL_CALLERS_MAX)
		return "too many callers";
	reader->caller = &config->callers[config->ncallers++];
	reader->caller->name = name;
	return NULL;
}

static const char *
take(void *arg, char *section, char *key, char *value)
{
	struct reader *reader = arg;
	const struct section *section_of;

	if (key == NULL)
		return take_section(reader, section);
	if (reader->caller != NULL)
		return take_caller_key(reader->caller, key, value);
	section_of = &sections[reader->section];
	/* pilotage-map reads [map], and judges it. */
	if (section_of->keys == NULL)
		return NULL;
	return pil_setting_take(section_of->keys, section_of->n,
	    &reader->seen[reader->section], reader->config, key, value);
}

/* What must be there whatever the rest says. */
static const char *
missing(const struct config *config)
{
	size_t i;

	if (config->ca_dir == NULL)
		return "[helper] has no ca_dir";
	if (config->verify_user == NULL)
		return "[helper] has no verify_user";
	if (config->audit_file == NULL && !config->syslog)
		return "[helper] has neither audit_file nor syslog";
	for (i = 0; i < config->ncallers; i++)
		if ((config->callers[i].vos == NULL &&
		    !pil_says_yes(config->callers[i].without_vo)) ||
		    config->callers[i].accounts == NULL)
			return "a [caller] has no vos (nor without_vo = yes) "
			    "or no accounts";
		else if (strlen(config->callers[i].accounts) >=
		    PIL_BOUNDS_SIZE)
			return "a [caller] has too long accounts";
	return NULL;
}

enum pil_reason
config_load(struct config *config, const char *path, int any_owner,
    char *detail)
{
	char wrong[PIL_DETAIL_SIZE], *text;
	struct reader reader = { .config = config };
	const char *what;
	size_t len;

	memset(config, 0, sizeof(*config));
	config->min_uid = config->min_gid = 1000;
	config->term_grace = 10;
	config->clock_skew = 300;
	config->tmp_bytes = 512ull * MIB;
	config->syslog = config->require_crl = config->no_new_privs = 1;
	if (pil_read_trusted(path, any_owner, CONFIG_MAX, &text, &len,
	    detail) == -1)
		return PIL_HELPER_CONFIG_UNUSABLE;
	if (pil_ini_parse(text, len, take, &reader, wrong) == -1)
		pil_detail(detail, "%s: %s", path, wrong);
	else if ((what = missing(config)) != NULL)
		pil_detail(detail, "%s: %s", path, what);
	else
		return PIL_OK;
	return PIL_HELPER_CONFIG_INVALID;
}
