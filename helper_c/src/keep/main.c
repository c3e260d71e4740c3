/*
 * pilotage-keep: keeps a run from its configuration to its end.
 *
 * The setuid program becomes it, as root in all ids and with an empty
 * environment, so that nothing here starts in a state that a caller has made
 * (README.privsep). Anybody else's start is refused.
 */
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/stat.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/sha256.h"
#include "base/text.h"
#include "keep/audit.h"
#include "keep/bounds.h"
#include "keep/cleanup.h"
#include "keep/config.h"
#include "keep/glexec.h"
#include "keep/local.h"
#include "keep/monitor.h"
#include "keep/oldlog.h"
#include "keep/proxyfile.h"
#include "keep/tell.h"
#include "privsep/handover.h"
#include "privsep/switch.h"

static void
check(struct run *run, enum pil_reason reason, const char *detail)
{
	if (reason != PIL_OK)
		refuse(run, reason, "%s", detail);
}

/* The caller's name comes from the kernel's uid, never from the caller. */
static void
authorise(struct run *run)
{
	struct ids *verifier = &run->verifier;
	char number[16];

	if (local_name(run->pilot.uid, run->caller_name,
	    sizeof(run->caller_name)) == -1)
		refuse(run, PIL_ACCOUNT_LOOKUP, "uid %u: %s", run->pilot.uid,
		    strerror(errno));
	(void)snprintf(number, sizeof(number), "%u", run->pilot.uid);
	run->caller = bounds_caller(&run->config, run->caller_name);
	if (run->caller == NULL)
		run->caller = bounds_caller(&run->config, number);
	if (run->caller == NULL)
		refuse(run, PIL_CALLER_NOT_ALLOWED, "the configuration has no "
		    "[caller %s]", run->caller_name);
	if (run->options.glexec && !glexec_allowed(run->caller))
		refuse(run, PIL_CALLER_NOT_ALLOWED, "[caller %s] does not say "
		    "glexec = yes", run->caller_name);
	switch (local_ids(run->config.verify_user, verifier)) {
	case -1:
		refuse(run, PIL_ACCOUNT_LOOKUP, "/etc/passwd: %s",
		    strerror(errno));
	case 0:
		*verifier = (struct ids){ 0, 0 };
	}
	if (pil_is_special(verifier->uid) || pil_is_special(verifier->gid) ||
	    verifier->uid == run->pilot.uid)
		refuse(run, PIL_HELPER_CONFIG_INVALID, "verify_user %s is no "
		    "account of /etc/passwd that the verifier can have",
		    run->config.verify_user);
}

/* Steps 6 to 9: what may refuse before anything is done. */
static void
prepare(struct run *run)
{
	char detail[PIL_DETAIL_SIZE], unlogged[PIL_DETAIL_SIZE];
	uint8_t id[(PIL_RUN_ID_SIZE - 1) / 2];
	enum pil_reason reason;

	if (getrandom(id, sizeof(id), 0) != sizeof(id))
		refuse(run, PIL_HELPER_SYSTEM, "getrandom: %s",
		    strerror(errno));
	pil_hex(id, sizeof(id), run->id);
	/* Without a configuration the refusal can still reach the log daemon. */
	if ((reason = config_load(&run->config, PILOTAGE_CONFIG, 0,
	    detail)) != PIL_OK)
		run->config = (struct config){ .syslog = 1 };
	if (audit_open(run, unlogged) == -1 && reason == PIL_OK)
		refuse(run, PIL_AUDIT_UNAVAILABLE, "%s", unlogged);
	check(run, reason, detail);
	if (oldlog_open(run, detail) == -1)
		refuse(run, PIL_AUDIT_UNAVAILABLE, "%s", detail);
	if (run->pilot.uid == 0 && run->options.verb == VERB_CLEANUP)
		return;
	if (run->pilot.uid == 0)
		refuse(run, PIL_CALLER_NOT_ALLOWED,
		    "root has no payloads; call it as a pilot");
	authorise(run);
	if (run->options.verb == VERB_CLEANUP)
		return;
	check(run, proxyfile_read(run, run->options.proxy, &run->proxy,
	    detail), detail);
	if (run->options.source != NULL)
		check(run, proxyfile_read(run, run->options.source,
		    &run->source, detail), detail);
}

/* execve has made it dumpable; whoever started us has to be the split. */
static int
is_sound_start(int argc)
{
	return argc == 1 && environ[0] == NULL && switch_is_root() &&
	    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == 0 &&
	    fcntl(HANDOVER_FRONT_FD, F_SETFD, FD_CLOEXEC) == 0;
}

static void
take_call(struct run *run)
{
	struct call call;
	const char *wrong;

	if ((wrong = handover_take(HANDOVER_FD, &call)) != NULL)
		refuse(run, PIL_HELPER_SYSTEM, "the call as handed over: %s",
		    wrong);
	run->options = call.options;
	run->pilot = call.pilot;
	run->pid = call.pid;
	run->mask = call.mask;
	run->environment = call.environment;
	memcpy(run->limits, call.limits, sizeof(run->limits));
}

int
main(int argc, char **argv)
{
	static struct run run = { .audit_file = -1, .audit_log = -1,
	    .old_file = -1, .old_log = -1,
	    .front = HANDOVER_FRONT_FD, .slot = { -1, -1, -1, -1, -1, -1 },
	    .control = { -1, -1 },
	    .cgroup = { .leaf = { { .parent = -1, .dir = -1 },
	    { .parent = -1, .dir = -1 }, { .parent = -1, .dir = -1 },
	    { .parent = -1, .dir = -1 } } }, .payload = { .pidfd = -1 },
	    .usage = { .memory_peak = -1, .pids_peak = -1 } };

	(void)argv;
	if (!is_sound_start(argc))
		_exit(202);
	(void)umask(077);
	take_call(&run);
	prepare(&run);
	if (switch_leave_groups() == -1)
		refuse(&run, PIL_SWITCH_FAILED, "groups: %s", strerror(errno));
	if (run.options.verb == VERB_CLEANUP)
		cleanup(&run);
	monitor(&run);
	_exit(202);	/* never reached; fail safe */
}
