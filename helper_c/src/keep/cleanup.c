/*
 * Verb cleanup: what monitors that died have left is killed and removed, by
 * its record and its groups. No pid is in a record, so none can be recycled.
 */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "keep/audit.h"
#include "keep/bury.h"
#include "keep/cleanup.h"
#include "keep/slot.h"
#include "keep/tell.h"

static int
is_run_id(const char *text)
{
	return strlen(text) == PIL_RUN_ID_SIZE - 1 &&
	    strspn(text, "0123456789abcdef") == PIL_RUN_ID_SIZE - 1;
}

static enum left
clean(struct run *run, const char *id)
{
	enum left left = bury_run(run, id);
	struct pil_json json;

	if (left != LEFT_REMOVED && left != LEFT_SOME)
		return left;
	(void)snprintf(run->id, sizeof(run->id), "%s", id);
	audit_begin(run, &json, "CLEANUP");
	pil_json_bool(&json, "complete", left == LEFT_REMOVED);
	if (audit_write(run, &json) == -1)
		refuse(run, PIL_AUDIT_UNAVAILABLE, "CLEANUP cannot be logged");
	return left;
}

static void
clean_named(struct run *run, const char *id)
{
	enum left left = is_run_id(id) ? clean(run, id) : LEFT_FOREIGN;

	if (left == LEFT_FOREIGN)
		refuse(run, PIL_CALLER_NOT_ALLOWED, "no run of yours is %s",
		    id);
	if (left == LEFT_ALIVE)
		refuse(run, PIL_ACCOUNT_IN_USE, "run %s is not over", id);
	if (left == LEFT_SOME)
		refuse(run, PIL_CLEANUP_INCOMPLETE, "run %s", id);
}

static void
clean_all(struct run *run)
{
	int copy = dup(run->slot.jobs), some = 0;
	DIR *dir = copy != -1 ? fdopendir(copy) : NULL;
	struct dirent *entry;

	if (dir == NULL)
		refuse(run, PIL_HELPER_SYSTEM, "the records cannot be read");
	while ((entry = readdir(dir)) != NULL)
		if (is_run_id(entry->d_name))
			some |= clean(run, entry->d_name) == LEFT_SOME;
	(void)closedir(dir);
	if (some)
		refuse(run, PIL_CLEANUP_INCOMPLETE, "see the log");
}

void
cleanup(struct run *run)
{
	char detail[PIL_DETAIL_SIZE];

	if (chdir("/") == -1)
		refuse(run, PIL_HELPER_SYSTEM, "/: %s", strerror(errno));
	if (slot_open(run, detail) == -1)
		refuse(run, PIL_HELPER_SYSTEM, "%s", detail);
	if (run->options.run_id != NULL)
		clean_named(run, run->options.run_id);
	else
		clean_all(run);
	tell_front(run, MESSAGE_EXIT, 0, PIL_OK, "", 0);
	_exit(0);
}
