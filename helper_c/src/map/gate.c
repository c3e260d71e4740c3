/*
 * Who may come in at all. These are LCAS's files, and like LCAS all of those
 * that are configured must agree; one that is missing or broken refuses.
 */
#include "base/names.h"
#include "base/text.h"
#include "map/commands.h"
#include "map/gate.h"
#include "map/mapfile.h"
#include "map/timeslots.h"

/* A ban, of the DN or any FQAN; in the list of allowed users, the DN. */
static int
names(const struct pil_mapfile *file, const struct pil_identity *who)
{
	const int bans = file->kind == PIL_BAN_MAP;
	const char *key = NULL, *rest;
	uint32_t i;

	while (pil_mapfile_next(file, &key, &rest)) {
		if (pil_is_dn(key)) {
			if (pil_dn_fits(key, who->dn, bans))
				return 1;
			continue;
		}
		for (i = 0; i < who->fqan_count; i++)
			if (pil_fqan_match(key, who->fqan[i]))
				return 1;
	}
	return 0;
}

static enum pil_reason
check_list(const struct pil_task *task, const char *path,
    enum pil_mapkind kind, int *listed)
{
	struct pil_mapfile file;
	enum pil_reason reason;

	reason = pil_mapfile_read(&file, path, kind, task->config->any_owner,
	    task->map->detail);
	if (reason != PIL_OK)
		return reason;
	*listed |= names(&file, &task->request->who);
	pil_mapfile_free(&file);
	return PIL_OK;
}

static enum pil_reason
check_owner(const struct pil_task *task)
{
	const struct pil_map_config *config = task->config;
	int banned = 0, allowed = config->allowed_users == NULL;
	enum pil_reason reason = PIL_OK;

	if (config->ban_file != NULL)
		reason = check_list(task, config->ban_file, PIL_BAN_MAP,
		    &banned);
	if (reason == PIL_OK && config->second_ban_file != NULL)
		reason = check_list(task, config->second_ban_file, PIL_BAN_MAP,
		    &banned);
	if (reason == PIL_OK && config->allowed_users != NULL)
		reason = check_list(task, config->allowed_users,
		    PIL_ALLOW_MAP, &allowed);
	if (reason != PIL_OK)
		return reason;
	if (banned) {
		pil_detail(task->map->detail, "%s is banned here",
		    task->request->who.dn);
		return PIL_OWNER_BANNED;
	}
	if (allowed)
		return PIL_OK;
	pil_detail(task->map->detail, "%s is not in %s",
	    task->request->who.dn, config->allowed_users);
	return PIL_OWNER_NOT_LISTED;
}

enum pil_reason
pil_gate(const struct pil_task *task)
{
	const struct pil_map_config *config = task->config;
	char *detail = task->map->detail;
	enum pil_reason reason;

	if ((reason = check_owner(task)) != PIL_OK)
		return reason;
	if (config->timeslots != NULL && (reason = pil_timeslots_check(
	    config->timeslots, config->any_owner, task->request->at,
	    detail)) != PIL_OK)
		return reason;
	/* Without a command the file is read all the same. */
	if (config->permitted_executables != NULL)
		return pil_commands_check(config->permitted_executables,
		    config->any_owner, task->request->command, detail);
	return PIL_OK;
}

static enum pil_reason
check_names(const struct pil_map_config *config, const char *path,
    enum pil_mapkind kind, char *detail)
{
	struct pil_mapfile file;
	enum pil_reason reason;

	if (path == NULL)
		return PIL_OK;
	reason = pil_mapfile_read(&file, path, kind, config->any_owner,
	    detail);
	if (reason == PIL_OK)
		pil_mapfile_free(&file);
	return reason;
}

enum pil_reason
pil_gate_check_files(const struct pil_map_config *config, char *detail)
{
	const struct {
		const char	*path;
		enum pil_mapkind kind;
	} lists[] = {
		{ config->ban_file, PIL_BAN_MAP },
		{ config->second_ban_file, PIL_BAN_MAP },
		{ config->allowed_users, PIL_ALLOW_MAP },
	};
	enum pil_reason reason = PIL_OK;
	size_t i;

	for (i = 0; i < 3 && reason == PIL_OK; i++)
		reason = check_names(config, lists[i].path, lists[i].kind,
		    detail);
	if (reason == PIL_OK && config->timeslots != NULL)
		reason = pil_timeslots_check(config->timeslots,
		    config->any_owner, 0, detail);
	if (reason == PIL_TIME_SLOT_CLOSED)
		reason = PIL_OK;
	if (reason == PIL_OK && config->permitted_executables != NULL)
		reason = pil_commands_check(config->permitted_executables,
		    config->any_owner, "", detail);
	return reason;
}
