/*
 * The strict reader of configuration files: [section] lines, key = value
 * lines, whole-line and trailing '#' comments, nothing else.
 */
#ifndef PILOTAGE_BASE_INI_H
#define PILOTAGE_BASE_INI_H

#include <stddef.h>

/*
 * Called for each section (key and value NULL) and for each pair, in order,
 * with pointers into the text. Returns NULL, or what is wrong with the line.
 */
typedef const char *pil_ini_handler(void *, char *section, char *key,
    char *value);

/* Parse text in place (text[len] is NUL). -1: detail names the line. */
int	pil_ini_parse(char *text, size_t len, pil_ini_handler *handler,
	    void *arg, char *detail);

#endif
