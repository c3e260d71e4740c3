/*
 * Steps 6 to 9: what may refuse before anything is done.
 */
#include <sys/random.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/sha256.h"
#include "base/text.h"
#include "keep/audit.h"
#include "keep/bounds.h"
#include "keep/config.h"
#include "keep/glexec.h"
#include "keep/local.h"
#include "keep/oldlog.h"
#include "keep/prepare.h"
#include "keep/proxyfile.h"
#include "keep/tell.h"
#include "privsep/handover.h"

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
	/* Without an entry it stays 0, which is no account for it either. */
	if (local_ids(run->config.verify_user, verifier) == -1)
		refuse(run, PIL_ACCOUNT_LOOKUP, "/etc/passwd: %s",
		    strerror(errno));
	if (pil_is_special(verifier->uid) || pil_is_special(verifier->gid) ||
	    verifier->uid == run->pilot.uid)
		refuse(run, PIL_HELPER_CONFIG_INVALID, "verify_user %s is no "
		    "account of /etc/passwd that the verifier can have",
		    run->config.verify_user);
}

void
prepare_call(struct run *run)
{
	struct call call;
	const char *wrong;
	int i;

	run->audit_file = run->audit_log = run->old_file = run->old_log = -1;
	run->front = HANDOVER_FRONT_FD;
	run->slot = (struct slot){ -1, -1, -1, -1, -1, -1, 0 };
	run->control = (struct control){ .listener = -1, .client = -1 };
	for (i = 0; i < NTREES; i++)
		run->cgroup.leaf[i].parent = run->cgroup.leaf[i].dir = -1;
	run->payload.pidfd = -1;
	run->usage.memory_peak = run->usage.pids_peak = -1;
	run->named = &run->map;
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

enum pil_reason
prepare_config(struct run *run, char *detail)
{
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
	if (run->config.log_only)
		run->mode = "log-only";
	return reason;
}

void
prepare_log(struct run *run, enum pil_reason reason, const char *why)
{
	char detail[PIL_DETAIL_SIZE];

	if (audit_open(run, detail) == -1 && reason == PIL_OK)
		refuse(run, PIL_AUDIT_UNAVAILABLE, "%s", detail);
	check(run, reason, why);
	if (oldlog_open(run, detail) == -1)
		refuse(run, PIL_AUDIT_UNAVAILABLE, "%s", detail);
}

void
prepare_caller(struct run *run)
{
	char detail[PIL_DETAIL_SIZE];

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
