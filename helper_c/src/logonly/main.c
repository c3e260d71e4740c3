/*
 * pilotage-logonly: everything of a run but the switch, for sites that want
 * to know whose payloads run and not to run them as their owners.
 *
 * It has no privilege, whoever starts it: pilotage-keep has given it all up
 * before, and where pilotage-exec has no set-user-id bit there never was any.
 * What decides is `mode` in helper.conf, which it reads itself. The steps are
 * those of pilotage-keep, with become.c and lines.c of its own; nothing is
 * leased, and what cannot be bounded without privilege is refused.
 */
#include <sys/prctl.h>
#include <sys/stat.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/text.h"
#include "keep/become.h"
#include "keep/begin.h"
#include "keep/local.h"
#include "keep/owner.h"
#include "keep/prepare.h"
#include "keep/tell.h"
#include "privsep/handover.h"

#define MODE	"log-only"

/* The call says who called; without privilege that can only be ourselves. */
static void
check_caller(struct run *run)
{
	if (become_account(run) == -1)
		refuse(run, PIL_HELPER_PRIVILEGE, "the program must be root's, "
		    "mode 4711, on a file system without nosuid");
}

/* The site has not said log-only: then we are here for want of privilege. */
static void
check_mode(struct run *run)
{
	if (run->config.log_only)
		return;
	if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 0)
		refuse(run, PIL_HELPER_NO_NEW_PRIVS, "no_new_privs is set: the "
		    "set-user-id bit has no effect");
	refuse(run, PIL_HELPER_PRIVILEGE, "the program must be root's, mode "
	    "4711, on a file system without nosuid");
}

/* A bound that cannot be set refuses the run, here as there. */
static void
check_bounds(struct run *run)
{
	const struct config *config = &run->config;
	enum tree tree;

	for (tree = TREE_MEMORY; tree < NTREES; tree++)
		if (config->bounds[tree] != 0 || run->options.bounds[tree] != 0)
			refuse(run, PIL_CGROUP_FAILED,
			    "mode " MODE " can set no bound");
	if (config->cgroup == CGROUP_REQUIRED)
		refuse(run, PIL_CGROUP_FAILED,
		    "mode " MODE " has no control groups");
	if (config->namespaces == NAMESPACES_REQUIRED)
		refuse(run, PIL_ISOLATION_FAILED,
		    "mode " MODE " has no namespaces");
	if (config->namespaces == NAMESPACES_AUTO)
		pil_detail(run->missing, "mode " MODE " has none");
}

/* The lines go on naming the account; the payload has the caller's place. */
static void
stay(struct run *run)
{
	static struct pil_mapping named;
	struct pil_mapping *map = &run->map;
	struct passwd pw;

	named = *map;
	run->named = &named;
	memset(map, 0, sizeof(*map));
	map->uid = run->pilot.uid;
	map->gid = run->pilot.gid;
	(void)snprintf(map->account, sizeof(map->account), "%s",
	    run->caller_name);
	if (local_find(NULL, run->pilot.uid, &pw) != 1 ||
	    pw.pw_dir[0] != '/' || strlen(pw.pw_dir) >= sizeof(map->home))
		refuse(run, PIL_HOME_UNUSABLE, "%s has no home in /etc/passwd",
		    run->caller_name);
	(void)snprintf(map->home, sizeof(map->home), "%s", pw.pw_dir);
}

/* There are no records of runs, so none of one that died; nor any by name. */
static void
answer_cleanup(struct run *run)
{
	if (run->options.run_id != NULL)
		refuse(run, PIL_CALLER_NOT_ALLOWED, "mode " MODE " has no "
		    "records of runs");
	tell_front(run, MESSAGE_EXIT, 0, PIL_OK, "", 0);
	_exit(0);
}

int
main(int argc, char **argv)
{
	char detail[PIL_DETAIL_SIZE];
	static struct run run;
	enum pil_reason reason;

	(void)argv;
	if (argc != 1 || environ[0] != NULL ||
	    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == -1 ||
	    fcntl(HANDOVER_FRONT_FD, F_SETFD, FD_CLOEXEC) == -1 ||
	    fcntl(HANDOVER_FD, F_SETFD, FD_CLOEXEC) == -1)
		_exit(202);
	(void)umask(077);
	prepare_call(&run);
	check_caller(&run);
	if ((reason = prepare_config(&run, detail)) == PIL_OK)
		check_mode(&run);
	prepare_log(&run, reason, detail);
	prepare_caller(&run);
	if (run.options.verb == VERB_CLEANUP)
		answer_cleanup(&run);
	if (chdir("/") == -1 || setpgid(0, 0) == -1 ||
	    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == -1)
		refuse(&run, PIL_HELPER_SYSTEM, "monitor: %s", strerror(errno));
	owner_begin(&run);
	owner_identify(&run);
	owner_map(&run);
	check_bounds(&run);
	stay(&run);
	begin_check(&run);
	begin(&run);
	_exit(202);	/* never reached; fail safe */
}
