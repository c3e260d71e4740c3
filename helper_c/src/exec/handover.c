/*
 * The call as pilotage-keep gets it: a memory file that nobody can change any
 * more, the caller least of all.
 */
#include <sys/mman.h>

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "exec/options.h"
#include "privsep/handover.h"
#include "privsep/order.h"
#include "privsep/sys.h"

static uint32_t
count(char **list)
{
	uint32_t n = 0;

	while (list != NULL && list[n] != NULL)
		n++;
	return n;
}

static void
fill(struct handover *head, const struct call *call)
{
	const struct options *options = &call->options;
	int i;

	memset(head, 0, sizeof(*head));
	memcpy(head->magic, HANDOVER_MAGIC, sizeof(head->magic));
	head->version = HANDOVER_VERSION;
	head->words = count(options->command);
	head->variables = count(call->environment);
	head->verb = (uint32_t)options->verb;
	head->glexec = options->glexec != 0;
	head->no_target = options->no_target != 0;
	head->uid = call->pilot.uid;
	head->gid = call->pilot.gid;
	head->mask = call->mask;
	head->pid = call->pid;
	head->parent = call->parent;
	for (i = 0; i < NTREES; i++)
		head->bounds[i] = options->bounds[i];
	for (i = 0; i < (int)RLIM_NLIMITS; i++) {
		head->limits[i].soft = call->limits[i].rlim_cur;
		head->limits[i].hard = call->limits[i].rlim_max;
	}
	memcpy(head->job_id, options->job_id, sizeof(options->job_id));
}

static size_t
size_of(char **list)
{
	return list == NULL ? 0 : options_size(list);
}

static char *
put(char *at, const char *text)
{
	size_t size = strlen(text) + 1;

	memcpy(at, text, size);
	return at + size;
}

static char *
put_list(char *at, char **list)
{
	for (; list != NULL && *list != NULL; list++)
		at = put(at, *list);
	return at;
}

/* Head and strings as one piece, which the caller frees. */
static char *
encode(const struct call *call, size_t *len)
{
	const struct options *options = &call->options;
	const char *strings[HANDOVER_STRINGS] = {
		[HANDOVER_PROXY] = options->proxy,
		[HANDOVER_RUN_ID] = options->run_id,
		[HANDOVER_SOURCE] = options->source,
		[HANDOVER_ACCOUNT] = options->account,
		[HANDOVER_TARGET] = options->target,
	};
	struct handover head;
	char *bytes, *at;
	int i;

	fill(&head, call);
	*len = sizeof(head) + size_of(options->command) +
	    size_of(call->environment);
	for (i = 0; i < HANDOVER_STRINGS; i++)
		if (strings[i] != NULL) {
			head.given |= 1u << i;
			*len += strlen(strings[i]) + 1;
		}
	if ((bytes = malloc(*len)) == NULL)
		return NULL;
	memcpy(bytes, &head, sizeof(head));
	at = bytes + sizeof(head);
	for (i = 0; i < HANDOVER_STRINGS; i++)
		if (strings[i] != NULL)
			at = put(at, strings[i]);
	at = put_list(at, options->command);
	(void)put_list(at, call->environment);
	return bytes;
}

int
handover_make(const struct call *call)
{
	int error, fd = memfd_create("call", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	size_t len;
	char *bytes;

	if (fd == -1)
		return -1;
	if ((bytes = encode(call, &len)) != NULL &&
	    sys_write_all(fd, bytes, len) == 0 &&
	    fcntl(fd, F_ADD_SEALS, PIL_SEALS) == 0) {
		free(bytes);
		return fd;
	}
	error = errno;
	free(bytes);
	(void)close(fd);
	errno = error;
	return -1;
}
