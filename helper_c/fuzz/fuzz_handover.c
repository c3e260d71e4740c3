/* The call as pilotage-keep gets it, and what must hold of all it believes. */
#include <string.h>

#include "fuzz.h"
#include "pilotage/map.h"
#include "privsep/handover.h"

static void
is_within(const char *text, const char *bytes, size_t len)
{
	MUST(text >= bytes && text < bytes + len);
	MUST(memchr(text, '\0', (size_t)(bytes + len - text)) != NULL);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static struct call call;
	const struct options *options = &call.options;
	char *bytes = malloc(len > 0 ? len : 1), **word;
	int run, map;

	MUST(bytes != NULL);
	memcpy(bytes, data, len);
	if (handover_decode(bytes, len, &call) == NULL) {
		run = options->verb == VERB_RUN;
		map = options->verb == VERB_MAP;
		MUST(run || map || options->verb == VERB_CLEANUP);
		MUST((options->proxy != NULL) == (run || map));
		if (options->proxy != NULL)
			is_within(options->proxy, bytes, len);
		if (options->source != NULL)
			is_within(options->source, bytes, len);
		MUST(options->account == NULL || ((map || options->glexec) &&
		    strlen(options->account) < PIL_ACCOUNT_SIZE));
		MUST(options->run_id == NULL || (!run && !map));
		MUST(options->target == NULL || (options->glexec &&
		    options->target[0] == '/'));
		MUST(!run || options->glexec || options->command != NULL);
		MUST(options->command == NULL ||
		    (run && options->command[0][0] == '/'));
		for (word = options->command; word != NULL && *word != NULL;
		    word++)
			is_within(*word, bytes, len);
		MUST(call.environment != NULL);
		MUST(options->glexec || call.environment[0] == NULL);
		for (word = call.environment; *word != NULL; word++)
			is_within(*word, bytes, len);
		MUST(call.pilot.uid != (uid_t)-1 && call.pilot.gid != (gid_t)-1);
		MUST(memchr(options->job_id, '\0', sizeof(options->job_id)) !=
		    NULL);
		MUST(options->status_fd == -1 && options->bounds[0] == 0);
	}
	free(options->command);
	free(call.environment);
	free(bytes);
	return 0;
}
