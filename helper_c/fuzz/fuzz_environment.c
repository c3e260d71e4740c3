/*
 * What of the caller's variables a payload can get, under gLExec's contract:
 * names that begin with GLEXEC_ and are names, each once. The input's entries
 * end with NULs.
 */
#include <string.h>

#include "keep/glexec.h"
#include "exec/options.h"
#include "keep/run.h"
#include "fuzz.h"

#define ENTRIES	256
#define PREFIX	"GLEXEC_"

static int
is_listed(char **list, const char *entry)
{
	for (; *list != NULL; list++)
		if (strcmp(*list, entry) == 0)
			return 1;
	return 0;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static struct run run;
	char *text = fuzz_string(data, len), *entries[ENTRIES + 1];
	char *list[GLEXEC_VARIABLES_MAX + 1];
	size_t n = 0, at, i, j, name;

	for (at = 0; at <= len && n < ENTRIES; at += strlen(text + at) + 1)
		entries[n++] = text + at;
	entries[n] = NULL;
	run.environment = entries;
	MUST(options_size(entries) <= len + 1);
	if (glexec_environment(&run, list) == 0)
		for (i = 0; list[i] != NULL; i++) {
			MUST(i < GLEXEC_VARIABLES_MAX);
			MUST(strncmp(list[i], PREFIX, strlen(PREFIX)) == 0);
			name = strspn(list[i],
			    "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_");
			MUST(list[i][name] == '=');
			MUST(is_listed(entries, list[i]));
			for (j = 0; j < i; j++)
				MUST(strncmp(list[j], list[i], name + 1) != 0);
		}
	free(text);
	return 0;
}
