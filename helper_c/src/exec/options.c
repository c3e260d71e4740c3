/*
 * The command line. Strings are kept as pointers; none of them is used before
 * the caller is known, and none but the proxies' paths is ever opened.
 */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "exec/options.h"
#include "pilotage/map.h"

#define ARGUMENTS_MAX	(1024 * 1024)
#define USAGE		"pilotage-exec run|glexec|map|signal|renew|cleanup|" \
			"check-config|--version; see pilotage-exec(8)"

static const struct {
	const char	*name;
	enum verb	 verb;
} verbs[] = {
	{ "run", VERB_RUN },
	{ "glexec", VERB_RUN },
	{ "map", VERB_MAP },
	{ "cleanup", VERB_CLEANUP },
	{ "signal", VERB_CONTROL },
	{ "renew", VERB_CONTROL },
	{ "check-config", VERB_CHECK_CONFIG },
	{ "--version", VERB_VERSION },
};

/* The log gets one printable line, whatever the caller wrote. */
static const char *
take_job_id(struct options *options, const char *text)
{
	size_t i;

	if (strlen(text) >= sizeof(options->job_id))
		return "--job-id has more than 128 bytes";
	(void)snprintf(options->job_id, sizeof(options->job_id), "%s", text);
	for (i = 0; options->job_id[i] != '\0'; i++)
		if (options->job_id[i] < ' ' || options->job_id[i] > '~')
			options->job_id[i] = '?';
	return NULL;
}

static const char *
take_status_fd(struct options *options, const char *text)
{
	size_t len = strlen(text);

	if (len == 0 || len > 6 || strspn(text, "0123456789") != len)
		return "--status-fd is not a descriptor's number";
	if (atoi(text) < PIL_STATUS_FD)
		return "--status-fd is less than 3";
	options->status_fd = atoi(text);
	return NULL;
}

static const char *
take_bound(unsigned long long *bound, const char *text)
{
	size_t len = strlen(text);

	if (len == 0 || len > 18 || strspn(text, "0123456789") != len ||
	    (*bound = strtoull(text, NULL, 10)) == 0)
		return "a bound is not a number above 0";
	return NULL;
}

static const char *
take(struct options *options, const char *name, const char *value)
{
	if (strcmp(name, "--proxy") == 0) {
		options->proxy = value;
		return NULL;
	}
	if (strcmp(name, "--status-fd") == 0)
		return take_status_fd(options, value);
	if ((options->verb == VERB_MAP || options->glexec) &&
	    strcmp(name, "--account") == 0) {
		options->account = value;
		return strlen(value) < PIL_ACCOUNT_SIZE && *value != '\0' ?
		    NULL : "--account is no account's name";
	}
	if (options->verb == VERB_RUN && strcmp(name, "--job-id") == 0)
		return take_job_id(options, value);
	if (options->verb == VERB_RUN && strcmp(name, "--memory-bytes") == 0)
		return take_bound(&options->bounds[TREE_MEMORY], value);
	if (options->verb == VERB_RUN && strcmp(name, "--pids") == 0)
		return take_bound(&options->bounds[TREE_PIDS], value);
	if (options->verb == VERB_RUN && strcmp(name, "--source-proxy") == 0) {
		options->source = value;
		return NULL;
	}
	if (options->verb == VERB_RUN && strcmp(name, "--target-proxy") == 0) {
		options->no_target = strcmp(value, "none") == 0;
		if (options->no_target)
			return NULL;
		options->target = value;
		return options->glexec && *value == '/' &&
		    strlen(value) < PATH_MAX ? NULL :
		    "--target-proxy can only be none, or an absolute path "
		    "with verb glexec";
	}
	return "unknown option, or -- is missing before the command";
}

static const char *
take_all(struct options *options, int argc, char **argv)
{
	const char *wrong;
	int i = 2, j;

	for (; i < argc && strcmp(argv[i], "--") != 0; i += 2) {
		if (i + 1 >= argc)
			return "the last option has no value, or -- is missing "
			    "before the command";
		for (j = 2; j < i; j += 2)
			if (strcmp(argv[i], argv[j]) == 0)
				return "an option is repeated";
		if ((wrong = take(options, argv[i], argv[i + 1])) != NULL)
			return wrong;
	}
	if (options->proxy == NULL)
		return "--proxy is missing";
	if (options->verb == VERB_MAP)
		return i == argc ? NULL : "map takes no command";
	if (i == argc && options->glexec)
		return NULL;
	if (i + 1 >= argc)
		return "-- and a command are missing";
	options->command = argv + i + 1;
	if (options->command[0][0] != '/')
		return "the command is not an absolute path";
	return NULL;
}

size_t
options_size(char **list)
{
	size_t total = 0;

	for (; *list != NULL; list++)
		total += strlen(*list) + 1;
	return total;
}

const char *
options_parse(struct options *options, int argc, char **argv, size_t others)
{
	size_t i;

	options->status_fd = -1;
	if (options_size(argv) + others > ARGUMENTS_MAX)
		return "arguments and environment are longer than 1 MiB";
	if (argc < 2)
		return "usage: " USAGE;
	for (i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++)
		if (strcmp(argv[1], verbs[i].name) == 0)
			break;
	if (i == sizeof(verbs) / sizeof(verbs[0]))
		return "unknown verb; usage: " USAGE;
	options->verb = verbs[i].verb;
	options->glexec = strcmp(verbs[i].name, "glexec") == 0;
	if (options->verb == VERB_RUN || options->verb == VERB_MAP)
		return take_all(options, argc, argv);
	if (options->verb == VERB_CLEANUP && argc == 3)
		options->run_id = argv[2];
	/* What else these verbs take is judged without privilege. */
	return argc == 2 || options->run_id != NULL ||
	    options->verb == VERB_CONTROL ? NULL :
	    "this verb takes no such arguments";
}
