/*
 * Local accounts, looked up and judged.
 */
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "base/words.h"
#include "map/account.h"
#include "map/database.h"
#include "map/groups.h"

static enum pil_reason
fill(const struct passwd *pw, const char *name, struct pil_mapping *map)
{
	/* A user database may ignore case; names here never do. */
	if (strcmp(pw->pw_name, name) != 0) {
		pil_detail(map->detail, "account %s is known as %s", name,
		    pw->pw_name);
		return PIL_ACCOUNT_UNKNOWN;
	}
	if (strlen(name) >= sizeof(map->account) || pw->pw_dir == NULL ||
	    pw->pw_dir[0] != '/' || strlen(pw->pw_dir) >= sizeof(map->home)) {
		pil_detail(map->detail, "account %s has no usable home", name);
		return PIL_HOME_UNUSABLE;
	}
	(void)snprintf(map->account, sizeof(map->account), "%s", name);
	(void)snprintf(map->home, sizeof(map->home), "%s", pw->pw_dir);
	map->uid = pw->pw_uid;
	map->gid = pw->pw_gid;
	return PIL_OK;
}

struct question {
	const char	*name;
	struct passwd	 entry, *found;
};

static int
ask(void *arg, char *buf, size_t size)
{
	struct question *question = arg;

	return getpwnam_r(question->name, &question->entry, buf, size,
	    &question->found);
}

static enum pil_reason
look_up(const char *name, struct pil_mapping *map)
{
	struct question question = { .name = name };
	enum pil_reason reason = PIL_ACCOUNT_LOOKUP;
	char *buf;
	int error = pil_database(ask, &question, &buf);

	if (error == 0 && question.found != NULL)
		reason = fill(question.found, name, map);
	else if (pil_database_unknown(error)) {
		pil_detail(map->detail, "there is no account %s", name);
		reason = PIL_ACCOUNT_UNKNOWN;
	} else
		pil_detail(map->detail, "account %s: %s", name,
		    strerror(error));
	free(buf);
	return reason;
}

enum pil_reason
pil_account(const struct pil_task *task, const char *name)
{
	const struct pil_map_request *request = task->request;
	struct pil_mapping *map = task->map;
	enum pil_reason reason;

	if ((reason = look_up(name, map)) != PIL_OK)
		return reason;
	if (pil_is_special(map->uid) || map->uid < request->min_uid) {
		pil_detail(map->detail, "account %s has uid %u, which is below "
		    "min_uid", name, map->uid);
		return PIL_ACCOUNT_FORBIDDEN;
	}
	if (map->uid == request->caller ||
	    map->uid == request->verifier_uid) {
		pil_detail(map->detail, "account %s is the caller's own or the "
		    "verifier's", name);
		return PIL_ACCOUNT_FORBIDDEN;
	}
	if ((reason = pil_groups_give(task)) != PIL_OK)
		return reason;
	if (request->accounts[0] == '\0' ||
	    pil_word_in(request->accounts, name, pil_account_bound))
		return PIL_OK;
	pil_detail(map->detail, "account %s is outside the caller's bounds",
	    name);
	return PIL_CALLER_ACCOUNT_BOUNDS;
}
