/*
 * The reader of grid-mapfile and ban file.
 *
 * LCMAPS reads a file up to the line that matches, so a broken line refuses
 * those below it and nobody notices one at the end. Here the whole file is
 * read each time and every broken line is told.
 */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/names.h"
#include "base/text.h"
#include "base/trusted.h"
#include "base/words.h"
#include "map/mapfile.h"

#define FILE_MAX	(16 * 1024 * 1024)

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
good_key(const char *key)
{
	char out[PIL_CANONICAL_SIZE];

	if (pil_is_dn(key))
		return pil_dn_canonical(key, out, sizeof(out)) == 0;
	return pil_fqan_normalise(key, out, PIL_NAME_SIZE) == 0;
}

static int
good_maps(char *maps)
{
	char name[PIL_ACCOUNT_SIZE + 1], *comment;
	const char *p = maps;
	size_t n = 0;

	if ((comment = strpbrk(maps, "#")) != NULL &&
	    (comment == maps || blank(comment[-1])))
		*comment = '\0';
	for (; pil_word_next(&p, name, sizeof(name)); n++) {
		const char *bare = name[0] == '.' ? name + 1 : name;

		if (!pil_is_account(bare, strlen(bare)))
			return 0;
	}
	return n > 0;
}

/* Check one line; store its pair at *out, which never overtakes the line. */
static int
take_line(char *line, char **out, enum pil_mapkind kind)
{
	char *key;
	size_t len;

	while (*line == ' ' || *line == '\t')
		line++;
	if (*line == '\0' || *line == '#')
		return 0;
	if ((key = cut_key(&line)) == NULL || !good_key(key) ||
	    (kind == PIL_GRID_MAP && !good_maps(line)))
		return -1;
	len = strlen(key) + 1;
	memmove(*out, key, len);
	*out += len;
	if (kind == PIL_BAN_MAP)
		return 0;
	len = strlen(line) + 1;
	memmove(*out, line, len);
	*out += len;
	return 0;
}

enum pil_reason
pil_mapfile_read(struct pil_mapfile *map, const char *path,
    enum pil_mapkind kind, int any_owner, char *detail)
{
	char broken[96] = "", *p, *end, *last, *stop;
	size_t len, at = 0;
	unsigned number = 0, count = 0;

	map->text = map->end = NULL;
	map->kind = kind;
	if (pil_read_trusted(path, any_owner, FILE_MAX, &map->text, &len,
	    detail) == -1)
		return PIL_MAP_FILE_UNUSABLE;
	map->end = map->text;
	stop = map->text + len;
	for (p = map->text; p < stop; p = end + 1) {
		number++;
		if ((end = memchr(p, '\n', (size_t)(stop - p))) == NULL)
			end = stop;
		*end = '\0';
		last = end > p && end[-1] == '\r' ? end - 1 : end;
		*last = '\0';
		/* A NUL byte inside the line would hide what follows it. */
		if (strlen(p) == (size_t)(last - p) &&
		    take_line(p, &map->end, kind) == 0)
			continue;
		count++;
		if (at < sizeof(broken) - 16)
			at += (size_t)snprintf(broken + at,
			    sizeof(broken) - at, " %u", number);
	}
	if (count == 0)
		return PIL_OK;
	pil_mapfile_free(map);
	pil_detail(detail, "%s: %u broken, line%s%s%s", path, count,
	    count > 1 ? "s" : "", broken, at >= sizeof(broken) - 16 ? " ..." :
	    "");
	return PIL_MAP_FILE_MALFORMED;
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
	if (*cursor != NULL && map->kind == PIL_GRID_MAP)
		p += strlen(p) + 1;
	if (p >= map->end)
		return 0;
	*cursor = p;
	*maps = map->kind == PIL_GRID_MAP ? p + strlen(p) + 1 : "";
	return 1;
}
