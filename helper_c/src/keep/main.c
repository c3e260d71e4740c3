/*
 * pilotage-keep: keeps a run from its configuration to its end.
 *
 * The setuid program becomes it, as root in all ids and with an empty
 * environment, so that nothing here starts in a state that a caller has made
 * (README.privsep). Anybody else's start is refused.
 */
#include <sys/prctl.h>
#include <sys/stat.h>

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/text.h"
#include "keep/cleanup.h"
#include "keep/monitor.h"
#include "keep/prepare.h"
#include "keep/tell.h"
#include "privsep/handover.h"
#include "privsep/switch.h"
#include "privsep/sys.h"

#define ASIDE	16	/* beyond the descriptors that are handed on */

/* execve has made it dumpable; whoever started us has to be the split. */
static int
is_sound_start(int argc)
{
	return argc == 1 && environ[0] == NULL && switch_is_root() &&
	    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == 0 &&
	    fcntl(HANDOVER_FRONT_FD, F_SETFD, FD_CLOEXEC) == 0;
}

/* A file's descriptor at its place, or nothing there. */
static int
place(int fd, int at)
{
	if (fd == -1) {
		(void)close(at);
		return 0;
	}
	return dup2(fd, at) == -1 ? -1 : 0;
}

/*
 * Mode log-only is another program's: this one gives up all privilege for good
 * and becomes it. Here is no way to run a payload but as its account, and there
 * none to have any power.
 */
static void
become_log_only(struct run *run)
{
	char *argv[] = { (char *)(uintptr_t)"pilotage-logonly", NULL };
	char *nothing[] = { NULL };
	int file = run->audit_file, old = run->old_file;

	if ((file != -1 && (file = fcntl(file, F_DUPFD_CLOEXEC, ASIDE)) ==
	    -1) || (old != -1 && (old = fcntl(old, F_DUPFD_CLOEXEC, ASIDE)) ==
	    -1) || place(file, HANDOVER_LOG_FD) == -1 ||
	    place(old, HANDOVER_OLD_LOG_FD) == -1 ||
	    fcntl(HANDOVER_FRONT_FD, F_SETFD, 0) == -1)
		refuse(run, PIL_HELPER_SYSTEM, "descriptors: %s",
		    strerror(errno));
	if (switch_to_caller(&run->pilot) == -1)
		refuse(run, PIL_SWITCH_FAILED, "to the caller: %s",
		    strerror(errno));
	if (sys_close_from(HANDOVER_OLD_LOG_FD + 1) == 0)
		(void)execve(PILOTAGE_LOGONLY, argv, nothing);
	run->audit_file = file != -1 ? HANDOVER_LOG_FD : -1;
	run->audit_log = run->old_file = run->old_log = -1;
	refuse(run, PIL_HELPER_SYSTEM, PILOTAGE_LOGONLY ": %s",
	    strerror(errno));
}

int
main(int argc, char **argv)
{
	char detail[PIL_DETAIL_SIZE];
	static struct run run;

	(void)argv;
	if (!is_sound_start(argc))
		_exit(202);
	(void)umask(077);
	prepare_call(&run);
	prepare_log(&run, prepare_config(&run, detail), detail);
	if (run.config.log_only && run.pilot.uid != 0)
		become_log_only(&run);
	(void)close(HANDOVER_FD);
	prepare_caller(&run);
	if (switch_leave_groups() == -1)
		refuse(&run, PIL_SWITCH_FAILED, "groups: %s", strerror(errno));
	if (run.options.verb == VERB_CLEANUP)
		cleanup(&run);
	monitor(&run);
	_exit(202);	/* never reached; fail safe */
}
