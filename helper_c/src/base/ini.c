/*
 * The strict reader of configuration files.
 */
#include <ctype.h>
#include <string.h>

#include "base/ini.h"
#include "base/text.h"

static char *
trim(char *p)
{
	size_t len;

	while (*p == ' ' || *p == '\t')
		p++;
	len = strlen(p);
	while (len > 0 && (p[len - 1] == ' ' || p[len - 1] == '\t'))
		len--;
	p[len] = '\0';
	return p;
}

/* A '#' at the beginning or after a blank starts a comment. */
static void
cut_comment(char *line)
{
	char *p;

	for (p = line; *p != '\0'; p++)
		if (*p == '#' && (p == line || p[-1] == ' ' || p[-1] == '\t')) {
			*p = '\0';
			return;
		}
}

static int
is_key(const char *p)
{
	if (!islower((unsigned char)*p))
		return 0;
	while (islower((unsigned char)*p) || isdigit((unsigned char)*p) ||
	    *p == '_')
		p++;
	return *p == '\0';
}

static const char *
take(char *line, char **section, pil_ini_handler *handler, void *arg)
{
	size_t len = strlen(line);
	char *value, *key;

	if (*line == '[') {
		if (len < 3 || line[len - 1] != ']')
			return "a section is written [name]";
		line[len - 1] = '\0';
		*section = trim(line + 1);
		return handler(arg, *section, NULL, NULL);
	}
	if (*section == NULL)
		return "there is no [section] above it";
	if ((value = strchr(line, '=')) == NULL)
		return "neither a [section] nor key = value";
	*value++ = '\0';
	key = trim(line);
	if (!is_key(key))
		return "the key has a character that keys never have";
	return handler(arg, *section, key, trim(value));
}

int
pil_ini_parse(char *text, size_t len, pil_ini_handler *handler, void *arg,
    char *detail)
{
	char *section = NULL, *line, *end, *p = text;
	const char *wrong;
	unsigned number = 0;

	while (p < text + len) {
		number++;
		end = memchr(p, '\n', (size_t)(text + len - p));
		if (end == NULL)
			end = text + len;
		*end = '\0';
		line = p;
		wrong = NULL;
		for (; *p != '\0'; p++)
			if ((unsigned char)*p < ' ' && *p != '\t')
				wrong = "control character";
		/* A NUL byte inside the line ends it early. */
		if (p != end)
			wrong = "control character";
		p = end + 1;
		cut_comment(line);
		line = trim(line);
		if (wrong == NULL && *line != '\0')
			wrong = take(line, &section, handler, arg);
		if (wrong != NULL) {
			pil_detail(detail, "line %u: %s", number, wrong);
			return -1;
		}
	}
	return 0;
}
