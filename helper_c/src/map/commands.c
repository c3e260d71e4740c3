/*
 * Which commands payloads may be.
 *
 * The path is judged as it will be executed, letter by letter: what it leads
 * to is not looked at, because it could change until then. So a pattern means
 * something only where no folder on the way is one that owners can write to.
 */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/names.h"
#include "base/text.h"
#include "map/commands.h"
#include "map/lines.h"

/* Cut the next component of a path off; 0: there is none, or it is too long. */
static int
component(const char **path, char *out, size_t size)
{
	size_t len;

	if (**path != '/')
		return 0;
	len = strcspn(*path + 1, "/");
	if (len == 0 || len >= size)
		return 0;
	memcpy(out, *path + 1, len);
	out[len] = '\0';
	*path += len + 1;
	return 1;
}

int
pil_command_plain(const char *path)
{
	char name[NAME_MAX + 1];

	do {
		if (!component(&path, name, sizeof(name)) ||
		    strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
			return 0;
	} while (*path != '\0');
	return 1;
}

int
pil_command_fits(const char *pattern, const char *command)
{
	char left[NAME_MAX + 1], right[NAME_MAX + 1];

	if (!pil_command_plain(command))
		return 0;
	while (component(&command, right, sizeof(right))) {
		if (strcmp(pattern, "/") == 0)
			return 1;
		if (!component(&pattern, left, sizeof(left)) ||
		    !pil_glob(left, right))
			return 0;
	}
	return *pattern == '\0';
}

/* A pattern is a plain path too, but for its last slash. */
static int
good(char *pattern)
{
	size_t len = strlen(pattern);
	int plain;

	if (len < 2 || pattern[len - 1] != '/')
		return pil_command_plain(pattern);
	pattern[len - 1] = '\0';
	plain = pil_command_plain(pattern);
	pattern[len - 1] = '/';
	return plain;
}

struct search {
	const char	*command;	/* "": only read */
	int		 found;
};

static int
take(void *arg, char *line)
{
	struct search *search = arg;
	char *end, *p;

	if (*line == '"') {
		line++;
		end = strchr(line, '"');
	} else
		end = line + strcspn(line, " \t");
	if (end == NULL)
		return -1;
	p = end + (*end != '\0');
	*end = '\0';
	p += strspn(p, " \t");
	if ((*p != '\0' && *p != '#') || !good(line))
		return -1;
	search->found |= pil_command_fits(line, search->command);
	return 0;
}

enum pil_reason
pil_commands_check(const char *path, int any_owner, const char *command,
    char *detail)
{
	struct search search = { command, 0 };
	enum pil_reason reason;
	char *text;

	reason = pil_lines_read(path, any_owner, &text, take, &search, detail);
	free(text);
	if (reason != PIL_OK || *command == '\0' || search.found)
		return reason;
	pil_detail(detail, "no line of %s permits %s", path, command);
	return PIL_COMMAND_FORBIDDEN;
}
