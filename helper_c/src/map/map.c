/*
 * From a verified identity to a local account.
 *
 * Who is banned, not allowed, too early or wants another command is refused
 * first. Then the steps of the policy in their order: the first step that finds
 * a line for the identity decides, and what that line names is used or refused;
 * there is no second choice.
 */
#include <string.h>

#include "base/names.h"
#include "base/text.h"
#include "base/words.h"
#include "map/account.h"
#include "map/gate.h"
#include "map/gridmapdir.h"
#include "map/groups.h"
#include "map/map.h"
#include "map/mapfile.h"

/* The files of the policy, each read once; a step's may be another's. */
struct files {
	struct pil_mapfile file[PIL_STEPS_MAX];
	const struct pil_mapfile *of[PIL_STEPS_MAX];
	struct pil_mapfile groups;
};

static void
close_files(struct files *files)
{
	size_t i;

	for (i = 0; i < PIL_STEPS_MAX; i++)
		pil_mapfile_free(&files->file[i]);
	pil_mapfile_free(&files->groups);
}

/* All of them, whichever step decides: a broken file refuses everybody. */
static enum pil_reason
open_files(const struct pil_map_config *config, struct files *files,
    char *detail)
{
	const struct pil_policy *policy = &config->policy;
	enum pil_reason reason = PIL_OK;
	size_t i, j;

	memset(files, 0, sizeof(*files));
	for (i = 0; i < policy->n && reason == PIL_OK; i++) {
		for (j = 0; j < i; j++)
			if (strcmp(policy->step[i].file,
			    policy->step[j].file) == 0)
				break;
		files->of[i] = &files->file[j];
		if (j == i)
			reason = pil_mapfile_read(&files->file[i],
			    policy->step[i].file, PIL_GRID_MAP,
			    config->any_owner, detail);
	}
	if (reason == PIL_OK && config->groupmapfile != NULL)
		reason = pil_mapfile_read(&files->groups,
		    config->groupmapfile, PIL_GROUP_MAP, config->any_owner,
		    detail);
	if (reason != PIL_OK)
		close_files(files);
	return reason;
}

/* The first name of the list that the step and this configuration can use. */
static int
usable(const struct pil_task *task, const char *maps, char *name, size_t size)
{
	unsigned want = task->step->want;

	if (task->config->gridmapdir == NULL)
		want &= ~PIL_WANT_POOL;
	while (pil_word_next(&maps, name, size))
		if (want & (name[0] == '.' ? PIL_WANT_POOL :
		    PIL_WANT_ACCOUNT))
			return 1;
	return 0;
}

/* Find the line for the FQAN, or for the DN when fqan is NULL. */
static int
find(const struct pil_task *task, const struct pil_mapfile *file,
    const char *fqan, char *name, size_t size)
{
	const char *key = NULL, *maps;
	int fits;

	while (pil_mapfile_next(file, &key, &maps)) {
		if (fqan != NULL)
			fits = !pil_is_dn(key) && pil_fqan_match(key, fqan);
		else
			fits = pil_is_dn(key) &&
			    pil_dn_fits(key, task->request->who.dn, 0);
		if (fits && usable(task, maps, name, size))
			return 1;
	}
	return 0;
}

static int
step_finds(const struct pil_task *task, const struct pil_mapfile *file,
    char *name, size_t size)
{
	const struct pil_identity *who = &task->request->who;
	uint32_t i;

	if (task->step->by == PIL_BY_DN)
		return find(task, file, NULL, name, size);
	for (i = 0; i < who->fqan_count; i++)
		if (find(task, file, who->fqan[i], name, size))
			return 1;
	return 0;
}

/*
 * A lease by FQAN ends in the groups of the FQANs or, where none are mapped, in
 * the pool; one by DN is the person's whatever the groups are.
 */
static const char *
suffix(const struct pil_task *task, const char *pool)
{
	if (task->step->by == PIL_BY_DN)
		return NULL;
	return task->groups != NULL && task->groups->n > 0 ?
	    task->groups->names : pool;
}

static enum pil_reason
use(const struct pil_task *task, const char *name)
{
	if (name[0] == '.')
		return pil_lease(task, name + 1, suffix(task, name + 1));
	return pil_account(task, name);
}

static enum pil_reason
use_with_groups(const struct pil_task *task, const struct pil_mapfile *map,
    const char *name)
{
	struct pil_task with = *task;
	struct pil_groups groups;
	enum pil_reason reason;

	if ((reason = pil_groups_find(task, map, &groups)) != PIL_OK)
		return reason;
	if (task->step->require_primary && !groups.primary) {
		pil_detail(task->map->detail, "no line of %s fits the first "
		    "attribute, and the policy wants its group",
		    task->config->groupmapfile);
		return PIL_NO_MAPPING;
	}
	with.groups = &groups;
	return use(&with, name);
}

static enum pil_reason
choose(struct pil_task *task, const struct files *files)
{
	const struct pil_policy *policy = &task->config->policy;
	char name[PIL_ACCOUNT_SIZE + 1];
	size_t i;

	for (i = 0; i < policy->n; i++) {
		task->step = &policy->step[i];
		if (!step_finds(task, files->of[i], name, sizeof(name)))
			continue;
		return task->step->groups == PIL_GROUPS_ACCOUNT ?
		    use(task, name) :
		    use_with_groups(task, &files->groups, name);
	}
	pil_detail(task->map->detail, "no step of the policy finds a line for "
	    "%s", task->request->who.dn);
	return PIL_NO_MAPPING;
}

enum pil_reason
pil_map(const struct pil_map_config *config,
    const struct pil_map_request *request, struct pil_mapping *map)
{
	struct pil_task task = { config, request, map, NULL, NULL };
	struct files files;
	enum pil_reason reason;

	memset(map, 0, sizeof(*map));
	if ((reason = pil_gate(&task)) != PIL_OK)
		return reason;
	if ((reason = open_files(config, &files, map->detail)) != PIL_OK)
		return reason;
	reason = choose(&task, &files);
	close_files(&files);
	if (reason == PIL_OK && request->expect[0] != '\0' &&
	    strcmp(request->expect, map->account) != 0) {
		pil_detail(map->detail, "%s maps to %s, not to %s",
		    request->who.dn, map->account, request->expect);
		return PIL_ACCOUNT_CHANGED;
	}
	return reason;
}

enum pil_reason
pil_map_check_files(const struct pil_map_config *config, char *detail)
{
	enum pil_reason reason;
	struct files files;

	if ((reason = open_files(config, &files, detail)) != PIL_OK)
		return reason;
	close_files(&files);
	return pil_gate_check_files(config, detail);
}
