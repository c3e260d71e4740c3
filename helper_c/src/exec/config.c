/*
 * helper.conf. One table of keys; an unknown or repeated one is an error, and
 * so is a value that is not exactly of its kind.
 */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/ini.h"
#include "base/text.h"
#include "base/trusted.h"
#include "exec/config.h"

#define CONFIG_MAX	(64 * 1024)
#define ID_MAX		4294967293u

enum kind { PATH, WORD, NUMBER, SIZE, WORDS };

#define MIB		(1024 * 1024)
#define SIZE_LIMIT	(1ull << 60)
#define CALLER	"caller "

struct key {
	const char	*name;
	enum kind	 kind;
	size_t		 offset;
	uint64_t	 min, max;	/* numbers; WORDS: max is the count */
	const char	*words[3];	/* WORDS: their indices are the values */
};

static const struct key helper_keys[] = {
#define AT(field)	offsetof(struct config, field)
	{ "ca_dir", PATH, AT(ca_dir), 0, 0, { NULL } },
	{ "voms_dir", PATH, AT(voms_dir), 0, 0, { NULL } },
	{ "grid_mapfile", PATH, AT(grid_mapfile), 0, 0, { NULL } },
	{ "gridmapdir", PATH, AT(gridmapdir), 0, 0, { NULL } },
	{ "ban_file", PATH, AT(ban_file), 0, 0, { NULL } },
	{ "audit_file", PATH, AT(audit_file), 0, 0, { NULL } },
	{ "verify_user", WORD, AT(verify_user), 0, 0, { NULL } },
	{ "min_uid", NUMBER, AT(min_uid), 1, ID_MAX, { NULL } },
	{ "min_gid", NUMBER, AT(min_gid), 1, ID_MAX, { NULL } },
	{ "term_grace_seconds", NUMBER, AT(term_grace), 0, 3600, { NULL } },
	{ "clock_skew_seconds", NUMBER, AT(clock_skew), 0, 3600, { NULL } },
	{ "syslog", WORDS, AT(syslog), 0, 2, { "no", "yes", NULL } },
	{ "require_crl", WORDS, AT(require_crl), 0, 2, { "no", "yes", NULL } },
	{ "limited_proxies", WORDS, AT(refuse_limited), 0, 2,
	    { "accept", "refuse", NULL } },
	{ "no_new_privs", WORDS, AT(no_new_privs), 0, 2, { "no", "yes", NULL } },
	{ "cgroup", WORDS, AT(cgroup), 0, 3, { "auto", "required", "off" } },
};

static const struct key isolation_keys[] = {
	{ "namespaces", WORDS, AT(namespaces), 0, 3,
	    { "off", "auto", "required" } },
	{ "tmp_bytes", SIZE, AT(tmp_bytes), MIB, SIZE_LIMIT, { NULL } },
#undef AT
};

static const struct section {
	const char	*name;
	const struct key *keys;
	size_t		 n;
} sections[] = {
#define KEYS(keys)	keys, sizeof(keys) / sizeof(keys[0])
	{ "helper", KEYS(helper_keys) },
	{ "isolation", KEYS(isolation_keys) },
#undef KEYS
};

#define NSECTIONS	(sizeof(sections) / sizeof(sections[0]))

struct reader {
	struct config	*config;
	struct caller	*caller;	/* whose section it is; NULL: another */
	size_t		 section;	/* then, which */
	uint32_t	 seen[NSECTIONS];	/* its keys, and 1u: itself */
};

static const char *
take_number(const struct key *key, const char *value, void *field)
{
	uint64_t n = 0;
	size_t len = strlen(value), i;

	if (len == 0 || len > 19 || strspn(value, "0123456789") != len)
		return "the value is not a number";
	for (i = 0; i < len; i++)
		n = n * 10 + (uint64_t)(value[i] - '0');
	if (n < key->min || n > key->max)
		return "the number is out of range";
	if (key->kind == SIZE)
		*(unsigned long long *)field = n;
	else
		*(unsigned *)field = (unsigned)n;
	return NULL;
}

static const char *
take_word(const struct key *key, const char *value, unsigned *out)
{
	unsigned i;

	for (i = 0; i < key->max; i++)
		if (strcmp(key->words[i], value) == 0) {
			*out = i;
			return NULL;
		}
	return "the value is not one of the known words";
}

static const char *
take_key(struct reader *reader, const char *name, char *value)
{
	const struct section *section = &sections[reader->section];
	const struct key *key;
	uint32_t bit;
	void *field;
	size_t i = 0;

	while (i < section->n && strcmp(section->keys[i].name, name) != 0)
		i++;
	if (i == section->n)
		return "unknown key";
	key = &section->keys[i];
	bit = 2u << i;
	if (reader->seen[reader->section] & bit)
		return "repeated key";
	reader->seen[reader->section] |= bit;
	field = (char *)reader->config + key->offset;
	if (key->kind == NUMBER || key->kind == SIZE)
		return take_number(key, value, field);
	if (key->kind == WORDS)
		return take_word(key, value, field);
	if (*value == '\0')
		return "the value is empty";
	if (key->kind == PATH && *value != '/')
		return "the value is not an absolute path";
	*(const char **)field = value;
	return NULL;
}

static const char *
take_caller_key(struct caller *caller, const char *name, char *value)
{
	const char **field;

	if (strcmp(name, "vos") == 0)
		field = &caller->vos;
	else if (strcmp(name, "fqans") == 0)
		field = &caller->fqans;
	else if (strcmp(name, "accounts") == 0)
		field = &caller->accounts;
	else if (strcmp(name, "glexec") == 0 && (strcmp(value, "yes") == 0 ||
	    strcmp(value, "no") == 0))
		field = &caller->glexec;
	else if (strcmp(name, "glexec") == 0)
		return "the value is neither yes nor no";
	else
		return "unknown key";
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
		if (reader->seen[i] != 0)
			return "repeated section";
		reader->seen[i] = 1;
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

	if (key == NULL)
		return take_section(reader, section);
	if (reader->caller != NULL)
		return take_caller_key(reader->caller, key, value);
	return take_key(reader, key, value);
}

/* What must be there whatever the rest says. */
static const char *
missing(const struct config *config)
{
	size_t i;

	if (config->ca_dir == NULL)
		return "[helper] has no ca_dir";
	if (config->grid_mapfile == NULL)
		return "[helper] has no grid_mapfile";
	if (config->verify_user == NULL)
		return "[helper] has no verify_user";
	if (config->audit_file == NULL && !config->syslog)
		return "[helper] has neither audit_file nor syslog";
	for (i = 0; i < config->ncallers; i++)
		if (config->callers[i].vos == NULL ||
		    config->callers[i].accounts == NULL)
			return "a [caller] has no vos or no accounts";
	return NULL;
}

enum pil_reason
config_load(struct config *config, char *detail)
{
	char wrong[PIL_DETAIL_SIZE], *text;
	struct reader reader = { config, NULL, 0, { 0 } };
	const char *what;
	size_t len;

	memset(config, 0, sizeof(*config));
	config->min_uid = config->min_gid = 1000;
	config->term_grace = 10;
	config->clock_skew = 300;
	config->tmp_bytes = 512ull * MIB;
	config->syslog = config->require_crl = config->no_new_privs = 1;
	if (pil_read_trusted(PILOTAGE_CONFIG, 0, CONFIG_MAX, &text, &len,
	    detail) == -1)
		return PIL_HELPER_CONFIG_UNUSABLE;
	if (pil_ini_parse(text, len, take, &reader, wrong) == -1)
		pil_detail(detail, "%s: %s", PILOTAGE_CONFIG, wrong);
	else if ((what = missing(config)) != NULL)
		pil_detail(detail, "%s: %s", PILOTAGE_CONFIG, what);
	else
		return PIL_OK;
	return PIL_HELPER_CONFIG_INVALID;
}
