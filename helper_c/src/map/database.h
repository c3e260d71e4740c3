/* The user database: accounts and groups by name. */
#ifndef PILOTAGE_MAP_DATABASE_H
#define PILOTAGE_MAP_DATABASE_H

#include <stddef.h>

/* One question, asked with a buffer for the answer; as getpwnam_r(3). */
typedef int pil_database_ask(void *question, char *buf, size_t size);

/*
 * Ask with a buffer that grows until the answer fits, 0, or an error
 * number. *buf, which the answer points into, is the caller's to free.
 */
int		pil_database(pil_database_ask *ask, void *question,
		    char **buf);

/* Does this error of it mean that there is no such name? */
int		pil_database_unknown(int error);

#endif
