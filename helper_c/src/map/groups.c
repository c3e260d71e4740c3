/*
 * Groups, from the user database and by FQAN.
 *
 * A group that a payload may not have is never left out: a site that maps an
 * FQAN to it has made a mistake, and a payload with fewer groups than the site
 * meant fails in a way that nobody understands.
 */
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/names.h"
#include "base/sha256.h"
#include "base/text.h"
#include "base/words.h"
#include "map/database.h"
#include "map/groups.h"

#define NAMES_MAX	128	/* of a lease's name, beside the DN */

struct question {
	const char	*name;
	struct group	 entry, *found;
};

static int
ask(void *arg, char *buf, size_t size)
{
	struct question *question = arg;

	return getgrnam_r(question->name, &question->entry, buf, size,
	    &question->found);
}

static enum pil_reason
look_up(const char *name, gid_t *gid, struct pil_mapping *map)
{
	struct question question = { .name = name };
	enum pil_reason reason = PIL_ACCOUNT_LOOKUP;
	char *buf;
	int error = pil_database(ask, &question, &buf);

	/* A group database may ignore case; names here never do. */
	if (error == 0 && question.found != NULL &&
	    strcmp(question.found->gr_name, name) == 0) {
		*gid = question.found->gr_gid;
		reason = PIL_OK;
	} else if (pil_database_unknown(error)) {
		pil_detail(map->detail, "there is no group %s", name);
		reason = PIL_GROUP_UNKNOWN;
	} else
		pil_detail(map->detail, "group %s: %s", name,
		    strerror(error));
	free(buf);
	return reason;
}

/* Append the gid unless it is there; 0, 1: it was there, -1: no room. */
static int
add(gid_t *list, uint32_t *n, gid_t gid)
{
	uint32_t i;

	for (i = 0; i < *n; i++)
		if (list[i] == gid)
			return 1;
	if (*n == PIL_GROUPS_MAX)
		return -1;
	list[(*n)++] = gid;
	return 0;
}

static enum pil_reason
too_many(const struct pil_task *task)
{
	pil_detail(task->map->detail, "there are more than %d groups",
	    PIL_GROUPS_MAX);
	return PIL_GROUP_FORBIDDEN;
}

/* The group of the first line that fits; 0: there is none. */
static int
find(const struct pil_mapfile *file, const char *fqan, char *name,
    size_t size)
{
	const char *key = NULL, *maps;

	while (pil_mapfile_next(file, &key, &maps))
		if (pil_fqan_match(key, fqan))
			return pil_word_next(&maps, name, size);
	return 0;
}

/*
 * A lease's name ends in the groups, as LCMAPS writes them. More than fit
 * there become the digest of all of them.
 */
static void
name_all(struct pil_groups *groups, char *all)
{
	size_t len = strlen(all);
	uint8_t digest[32];

	if (len > NAMES_MAX) {
		pil_sha256(all, len, digest);
		all[0] = all[1] = '%';
		pil_hex(digest, sizeof(digest), all + 2);
	}
	(void)snprintf(groups->names, sizeof(groups->names), "%s", all);
}

enum pil_reason
pil_groups_find(const struct pil_task *task, const struct pil_mapfile *file,
    struct pil_groups *groups)
{
	const struct pil_identity *who = &task->request->who;
	char all[PIL_GROUPS_MAX * (PIL_ACCOUNT_SIZE + 1) + 68] = "";
	char name[PIL_ACCOUNT_SIZE + 1];
	enum pil_reason reason;
	size_t at = 0;
	uint32_t i;
	gid_t gid;

	memset(groups, 0, sizeof(*groups));
	for (i = 0; i < who->fqan_count; i++) {
		if (!find(file, who->fqan[i], name, sizeof(name)))
			continue;
		if ((reason = look_up(name, &gid, task->map)) != PIL_OK)
			return reason;
		if (i == 0)
			groups->primary = 1;
		switch (add(groups->gid, &groups->n, gid)) {
		case -1:
			return too_many(task);
		case 0:
			at += (size_t)snprintf(all + at, sizeof(all) - at,
			    "%s%s", at > 0 ? ":" : "", name);
		}
	}
	name_all(groups, all);
	return PIL_OK;
}

/* May payloads be in this group? */
static int
may_have(const struct pil_map_request *request, gid_t gid)
{
	return !pil_is_special(gid) && gid >= request->min_gid &&
	    gid != request->caller_gid && gid != request->verifier_gid;
}

/* The account's own groups, behind those that are there already. */
static int
add_own(struct pil_mapping *map, gid_t primary)
{
	gid_t own[PIL_GROUPS_MAX];
	int n = PIL_GROUPS_MAX, i;

	if (getgrouplist(map->account, primary, own, &n) == -1)
		return -1;
	for (i = 0; i < n; i++)
		if (add(map->groups, &map->ngroups, own[i]) == -1)
			return -1;
	return 0;
}

enum pil_reason
pil_groups_give(const struct pil_task *task)
{
	const struct pil_groups *groups = task->groups;
	struct pil_mapping *map = task->map;
	const gid_t own = map->gid;
	uint32_t i;
	int left = 0;

	map->ngroups = 0;
	if (groups != NULL && groups->primary)
		map->gid = groups->gid[0];
	left |= add(map->groups, &map->ngroups, map->gid);
	for (i = 0; groups != NULL && i < groups->n; i++)
		left |= add(map->groups, &map->ngroups, groups->gid[i]);
	if (groups == NULL || task->step->groups == PIL_GROUPS_BOTH)
		left |= add_own(map, own);
	if (left < 0)
		return too_many(task);
	for (i = 0; i < map->ngroups; i++)
		if (!may_have(task->request, map->groups[i])) {
			pil_detail(map->detail, "account %s would run in "
			    "group %u, which is below min_gid, the caller's or "
			    "the verifier's", map->account, map->groups[i]);
			return PIL_GROUP_FORBIDDEN;
		}
	return PIL_OK;
}
