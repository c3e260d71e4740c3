/* The command line: the input's lines are the arguments. */
#include <string.h>

#include "exec/options.h"
#include "fuzz.h"

#define ARGS	64

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	char *text = fuzz_string(data, len), *rest = text, *argv[ARGS + 2];
	struct options options = { 0 };
	int argc = 0;
	size_t i;

	argv[argc++] = text + len;
	while (argc <= ARGS && (argv[argc] = strsep(&rest, "\n")) != NULL)
		argc++;
	argv[argc] = NULL;
	if (options_parse(&options, argc, argv, 0) == NULL) {
		MUST(options.status_fd == -1 ||
		    options.status_fd >= PIL_STATUS_FD);
		MUST(options.verb != VERB_RUN || options.proxy != NULL);
		/* Only gLExec's contract knows a call without a command. */
		MUST(options.verb != VERB_RUN || options.glexec ||
		    options.command != NULL);
		MUST(options.command == NULL || options.command[0][0] == '/');
		MUST(options.target == NULL || (options.glexec &&
		    options.target[0] == '/'));
		MUST(options.verb != VERB_MAP || options.proxy != NULL);
	}
	/* It is logged whatever becomes of the rest. */
	for (i = 0; options.job_id[i] != '\0'; i++)
		MUST(options.job_id[i] >= ' ' && options.job_id[i] <= '~');
	free(text);
	return 0;
}
