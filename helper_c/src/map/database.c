/*
 * The user database, asked by name.
 */
#include <errno.h>
#include <stdlib.h>

#include "map/database.h"

#define ENTRY_MAX	(4 * 1024 * 1024)	/* a group may have many members */

int
pil_database(pil_database_ask *ask, void *question, char **buf)
{
	size_t size = 4096;
	int error = ERANGE;
	char *bigger;

	*buf = NULL;
	for (; error == ERANGE && size <= ENTRY_MAX; size *= 4) {
		if ((bigger = realloc(*buf, size)) == NULL)
			return ENOMEM;
		*buf = bigger;
		error = ask(question, *buf, size);
	}
	return error;
}

/*
 * Success without an entry is "unknown" (CVE-2012-3292 ran on with the last
 * one); some databases say so by an error.
 */
int
pil_database_unknown(int error)
{
	return error == 0 || error == ENOENT || error == ESRCH;
}
