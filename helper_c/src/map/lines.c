/*
 * Site files of one entry a line.
 *
 * LCMAPS reads a file up to the line that matches, so a broken line refuses
 * those below it and nobody notices one at the end. Here the whole file is
 * read each time and every broken line is told.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "base/trusted.h"
#include "map/lines.h"

#define FILE_MAX	(16 * 1024 * 1024)

struct broken {
	char		 lines[96];
	size_t		 at;
	unsigned	 count;
};

static void
note(struct broken *broken, unsigned number)
{
	broken->count++;
	if (broken->at < sizeof(broken->lines) - 16)
		broken->at += (size_t)snprintf(broken->lines + broken->at,
		    sizeof(broken->lines) - broken->at, " %u", number);
}

static int
take_one(char *line, const char *end, pil_line_taker *take, void *arg)
{
	/* A NUL byte inside the line would hide what follows it. */
	if (strlen(line) != (size_t)(end - line))
		return -1;
	line += strspn(line, " \t");
	if (*line == '\0' || *line == '#')
		return 0;
	return take(arg, line);
}

enum pil_reason
pil_lines_read(const char *path, int any_owner, char **text,
    pil_line_taker *take, void *arg, char *detail)
{
	struct broken broken = { "", 0, 0 };
	char *p, *end, *last, *stop;
	unsigned number = 0;
	size_t len;

	*text = NULL;
	if (pil_read_trusted(path, any_owner, FILE_MAX, text, &len,
	    detail) == -1) {
		*text = NULL;
		return PIL_MAP_FILE_UNUSABLE;
	}
	stop = *text + len;
	for (p = *text; p < stop; p = end + 1) {
		number++;
		if ((end = memchr(p, '\n', (size_t)(stop - p))) == NULL)
			end = stop;
		*end = '\0';
		last = end > p && end[-1] == '\r' ? end - 1 : end;
		*last = '\0';
		if (take_one(p, last, take, arg) == -1)
			note(&broken, number);
	}
	if (broken.count == 0)
		return PIL_OK;
	free(*text);
	*text = NULL;
	pil_detail(detail, "%s: %u broken, line%s%s%s", path, broken.count,
	    broken.count > 1 ? "s" : "", broken.lines,
	    broken.at >= sizeof(broken.lines) - 16 ? " ..." : "");
	return PIL_MAP_FILE_MALFORMED;
}
