/*
 * The call as the setuid program has handed it over. It is believed no further
 * than its bytes reach: every count, flag and string is looked at, and what the
 * command line could not have said is refused.
 */
#include <sys/stat.h>

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/text.h"
#include "pilotage/map.h"
#include "privsep/handover.h"
#include "privsep/sys.h"

#define BOUND_MAX	1000000000000000000ull	/* 18 digits are taken */

struct strings {
	char	*next, *end;
};

/* The next string, or NULL when there is none whole. */
static char *
next(struct strings *from)
{
	char *text = from->next;
	char *nul = text < from->end ? memchr(text, '\0',
	    (size_t)(from->end - text)) : NULL;

	if (nul == NULL)
		return NULL;
	from->next = nul + 1;
	return text;
}

/* A list of n strings that ends in NULL; NULL when they are not all there. */
static char **
next_list(struct strings *from, uint32_t n)
{
	char **list;
	uint32_t i;

	/* None is shorter than its NUL. */
	if (n > from->end - from->next ||
	    (list = calloc((size_t)n + 1, sizeof(char *))) == NULL)
		return NULL;
	for (i = 0; i < n; i++)
		if ((list[i] = next(from)) == NULL) {
			free(list);
			return NULL;
		}
	return list;
}

static int
is_absolute(const char *path)
{
	return *path == '/' && strlen(path) < PATH_MAX;
}

/* What the head alone cannot say. */
static const char *
judge_head(const struct handover *head)
{
	int i;

	if (memcmp(head->magic, HANDOVER_MAGIC, sizeof(head->magic)) != 0 ||
	    head->version != HANDOVER_VERSION)
		return "not of this version";
	if (head->verb > VERB_CLEANUP || head->glexec > 1 ||
	    head->no_target > 1 || head->given >= 1u << HANDOVER_STRINGS ||
	    head->mask > 0777 || head->pid < 1 || head->parent < 0 ||
	    head->uid == UINT32_MAX || head->gid == UINT32_MAX)
		return "a number that cannot be";
	if (head->verb != VERB_RUN && (head->glexec != 0 ||
	    head->no_target != 0 || head->words != 0))
		return "what only a run has";
	if (head->variables != 0 && !head->glexec)
		return "variables";
	for (i = 0; i < NTREES; i++)
		if (head->bounds[i] != 0 && (head->verb != VERB_RUN ||
		    (i != TREE_MEMORY && i != TREE_PIDS) ||
		    head->bounds[i] >= BOUND_MAX))
			return "a bound";
	return pil_is_clean(head->job_id, sizeof(head->job_id)) &&
	    strlen(head->job_id) < PIL_JOB_ID_SIZE ? NULL : "the job id";
}

static const char *
judge_options(const struct options *options)
{
	int run = options->verb == VERB_RUN, map = options->verb == VERB_MAP;

	if ((options->proxy != NULL) != (run || map) ||
	    (options->run_id != NULL && (run || map)) ||
	    (options->source != NULL && !run) ||
	    (options->account != NULL && (!(map || options->glexec) ||
	    *options->account == '\0' ||
	    strlen(options->account) >= PIL_ACCOUNT_SIZE)))
		return "a string that this verb does not have";
	if (options->target != NULL && (!options->glexec ||
	    options->no_target || !is_absolute(options->target)))
		return "the target";
	if (options->command == NULL)
		return run && !options->glexec ? "no command" : NULL;
	return options->command[0][0] == '/' ? NULL : "the command";
}

static const char *
take_strings(const struct handover *head, struct strings *from,
    struct call *call)
{
	struct options *options = &call->options;
	const char **into[HANDOVER_STRINGS] = {
		[HANDOVER_PROXY] = &options->proxy,
		[HANDOVER_RUN_ID] = &options->run_id,
		[HANDOVER_SOURCE] = &options->source,
		[HANDOVER_ACCOUNT] = &options->account,
		[HANDOVER_TARGET] = &options->target,
	};
	int i;

	for (i = 0; i < HANDOVER_STRINGS; i++)
		if ((head->given & 1u << i) != 0 &&
		    (*into[i] = next(from)) == NULL)
			return "a string is missing";
	if (head->words != 0 && (options->command = next_list(from,
	    head->words)) == NULL)
		return "words are missing";
	if ((call->environment = next_list(from, head->variables)) == NULL)
		return "variables are missing";
	return from->next == from->end ? NULL : "bytes that nothing counts";
}

static void
take_head(const struct handover *head, struct call *call)
{
	struct options *options = &call->options;
	int i;

	options->verb = (enum verb)head->verb;
	options->glexec = (int)head->glexec;
	options->no_target = (int)head->no_target;
	options->status_fd = -1;	/* the front's */
	call->pilot = (struct ids){ head->uid, head->gid };
	call->mask = head->mask;
	call->pid = head->pid;
	call->parent = head->parent;
	for (i = 0; i < NTREES; i++)
		options->bounds[i] = head->bounds[i];
	for (i = 0; i < (int)RLIM_NLIMITS; i++) {
		call->limits[i].rlim_cur = head->limits[i].soft;
		call->limits[i].rlim_max = head->limits[i].hard;
	}
	memcpy(options->job_id, head->job_id, sizeof(options->job_id));
}

const char *
handover_decode(char *bytes, size_t len, struct call *call)
{
	struct strings from = { bytes + sizeof(struct handover), bytes + len };
	struct handover head;
	const char *wrong;

	memset(call, 0, sizeof(*call));
	if (len < sizeof(head) || len > sizeof(head) + HANDOVER_TEXT_MAX)
		return "not its size";
	memcpy(&head, bytes, sizeof(head));
	if ((wrong = judge_head(&head)) != NULL)
		return wrong;
	take_head(&head, call);
	if ((wrong = take_strings(&head, &from, call)) != NULL)
		return wrong;
	return judge_options(&call->options);
}

const char *
handover_take(int fd, struct call *call)
{
	static char bytes[sizeof(struct handover) + HANDOVER_TEXT_MAX];
	struct stat st;

	/* Sealed so, it is a memory file, and its bytes are what they were. */
	if (!sys_is_sealed(fd) || fstat(fd, &st) == -1)
		return "not a sealed memory file";
	if (st.st_size > (off_t)sizeof(bytes))
		return "not its size";
	if (pread(fd, bytes, (size_t)st.st_size, 0) != st.st_size)
		return strerror(errno);
	return handover_decode(bytes, (size_t)st.st_size, call);
}
