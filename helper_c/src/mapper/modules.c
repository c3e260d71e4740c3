/*
 * The name service's modules, loaded as the C library loads them: by the names
 * that nsswitch.conf gives, from where the loader finds libraries. The lookup
 * then finds them there. Nothing is asked of them here.
 */
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

#include "mapper/modules.h"

#define CONFIG	"/etc/nsswitch.conf"
#define BLANKS	" \t\r\n"

static int
is_ours(const char *database)
{
	return strcmp(database, "passwd") == 0 ||
	    strcmp(database, "group") == 0 ||
	    strcmp(database, "initgroups") == 0;
}

/* "files" is in the C library itself since version 2.34. */
static int
is_module(const char *name)
{
	return strcmp(name, "files") != 0 && strspn(name,
	    "abcdefghijklmnopqrstuvwxyz0123456789_") == strlen(name);
}

static void
load(const char *name)
{
	char file[64];
	int n = snprintf(file, sizeof(file), "libnss_%s.so.2", name);

	/* For good: the handle is not needed any more. */
	if (n > 0 && (size_t)n < sizeof(file))
		(void)dlopen(file, RTLD_NOW | RTLD_LOCAL);
}

/* One line; what stands in brackets are actions, and no module. */
static void
take(char *line)
{
	char *rest, *word;

	line[strcspn(line, "#")] = '\0';
	word = strtok_r(line, BLANKS ":", &rest);
	if (word == NULL || !is_ours(word))
		return;
	while ((word = strtok_r(NULL, BLANKS ":", &rest)) != NULL) {
		if (*word != '[') {
			if (is_module(word))
				load(word);
			continue;
		}
		while (word != NULL && strchr(word, ']') == NULL)
			word = strtok_r(NULL, BLANKS, &rest);
	}
}

void
modules_load(void)
{
	char line[512];
	FILE *file;

	if ((file = fopen(CONFIG, "re")) == NULL)
		return;
	while (fgets(line, sizeof(line), file) != NULL)
		take(line);
	(void)fclose(file);
}
