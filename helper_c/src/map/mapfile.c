/*
 * The reader of grid-mapfile, voms-mapfile, groupmapfile, ban file and list of
 * allowed users: one form for all.
 */
#include <stdlib.h>
#include <string.h>

#include "base/names.h"
#include "base/words.h"
#include "map/lines.h"
#include "map/mapfile.h"

static int
blank(char c)
{
	return c == ' ' || c == '\t' || c == ',';
}

/*
 * Cut the key off the line: quoted, or up to a blank. Only \" is an escape
 * here; other backslashes belong to the DN.
 */
static char *
cut_key(char **rest)
{
	char *p = *rest, *key = p, *out = p;
	int quoted = *p == '"';

	if (quoted)
		p++;
	for (; *p != '\0'; p++) {
		if (quoted ? *p == '"' : *p == ' ' || *p == '\t')
			break;
		if (quoted && p[0] == '\\' && p[1] == '"')
			p++;
		*out++ = *p;
	}
	if (quoted && *p != '"')
		return NULL;
	if (*p != '\0')
		p++;
	/* A quoted key must be followed by a blank or the line's end. */
	if (quoted && *p != '\0' && !blank(*p))
		return NULL;
	*out = '\0';
	while (blank(*p))
		p++;
	*rest = p;
	return key;
}

static int
good_key(const char *key, enum pil_mapkind kind)
{
	char out[PIL_CANONICAL_SIZE];

	if (pil_is_dn(key))
		return kind != PIL_GROUP_MAP &&
		    pil_dn_canonical(key, out, sizeof(out)) == 0;
	return kind != PIL_ALLOW_MAP &&
	    pil_fqan_normalise(key, out, PIL_NAME_SIZE) == 0;
}

/* Groups come by name alone: there are no pools of groups here. */
static int
good_maps(char *maps, enum pil_mapkind kind)
{
	char name[PIL_ACCOUNT_SIZE + 1], *comment;
	const char *p = maps;
	size_t n = 0;

	if ((comment = strpbrk(maps, "#")) != NULL &&
	    (comment == maps || blank(comment[-1])))
		*comment = '\0';
	for (; pil_word_next(&p, name, sizeof(name)); n++) {
		const char *bare = name[0] == '.' && kind != PIL_GROUP_MAP ?
		    name + 1 : name;

		if (!pil_is_account(bare, strlen(bare)))
			return 0;
	}
	return n > 0;
}

static int
has_maps(enum pil_mapkind kind)
{
	return kind != PIL_BAN_MAP && kind != PIL_ALLOW_MAP;
}

/* Check one line; store its pair at the end, which never overtakes it. */
static int
take_line(void *arg, char *line)
{
	struct pil_mapfile *map = arg;
	char *key;
	size_t len;

	if (map->end == NULL)
		map->end = map->text;
	if ((key = cut_key(&line)) == NULL || !good_key(key, map->kind) ||
	    (has_maps(map->kind) && !good_maps(line, map->kind)))
		return -1;
	len = strlen(key) + 1;
	memmove(map->end, key, len);
	map->end += len;
	if (!has_maps(map->kind))
		return 0;
	len = strlen(line) + 1;
	memmove(map->end, line, len);
	map->end += len;
	return 0;
}

enum pil_reason
pil_mapfile_read(struct pil_mapfile *map, const char *path,
    enum pil_mapkind kind, int any_owner, char *detail)
{
	enum pil_reason reason;

	map->end = NULL;
	map->kind = kind;
	reason = pil_lines_read(path, any_owner, &map->text, take_line, map,
	    detail);
	if (map->end == NULL || reason != PIL_OK)
		map->end = map->text;
	return reason;
}

void
pil_mapfile_free(struct pil_mapfile *map)
{
	free(map->text);
	map->text = map->end = NULL;
}

int
pil_mapfile_next(const struct pil_mapfile *map, const char **cursor,
    const char **maps)
{
	const char *p = map->text;

	if (*cursor != NULL)
		p = *cursor + strlen(*cursor) + 1;
	if (*cursor != NULL && has_maps(map->kind))
		p += strlen(p) + 1;
	if (p >= map->end)
		return 0;
	*cursor = p;
	*maps = has_maps(map->kind) ? p + strlen(p) + 1 : "";
	return 1;
}

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
 * A banned DN may have wildcards, unlike a mapped one. To ban one name too many
 * is the safe mistake, so escapes do not count there.
 */
int
pil_dn_fits(const char *key, const char *dn, int wildcards)
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
