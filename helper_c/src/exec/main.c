/*
 * pilotage-exec: runs a payload as its owner's account.
 *
 * main() reads from top to bottom as phase 0 of the privileged sequence
 * (README.privsep): nothing is looked at before what the caller left us is put
 * right, and then the process splits into front and monitor.
 */
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/sha256.h"
#include "base/text.h"
#include "exec/audit.h"
#include "exec/bounds.h"
#include "exec/cleanup.h"
#include "exec/config.h"
#include "exec/front.h"
#include "exec/glexec.h"
#include "exec/inherit.h"
#include "exec/local.h"
#include "exec/monitor.h"
#include "exec/options.h"
#include "exec/proxyfile.h"
#include "exec/switch.h"
#include "exec/tell.h"

#define VERSION		"0.1.0"

static void
check(struct run *run, enum pil_reason reason, const char *detail)
{
	if (reason != PIL_OK)
		refuse(run, reason, "%s", detail);
}

/* The verbs that need no privilege give it up before anything else. */
static void
answer_unprivileged(struct run *run, char **argv)
{
	char *check_argv[] = { (char *)(uintptr_t)"pilotage-map",
	    (char *)(uintptr_t)"check-config", NULL };
	char detail[PIL_DETAIL_SIZE], *nothing[] = { NULL };

	if (switch_to_caller(run) == -1)
		_exit(202);
	if (run->options.verb == VERB_VERSION) {
		(void)dprintf(STDOUT_FILENO, "pilotage-exec " VERSION "\n");
		_exit(0);
	}
	if (run->options.verb == VERB_CONTROL) {
		(void)execve(PILOTAGE_CONTROL, argv, nothing);
		refuse(run, PIL_HELPER_SYSTEM, PILOTAGE_CONTROL ": %s",
		    strerror(errno));
	}
	check(run, config_load(&run->config, PILOTAGE_CONFIG, 0, detail),
	    detail);
	/* It judges the other half, with the caller's rights. */
	(void)execve(PILOTAGE_MAP, check_argv, nothing);
	refuse(run, PIL_HELPER_SYSTEM, PILOTAGE_MAP ": %s", strerror(errno));
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

static void
prepare(struct run *run)
{
	char detail[PIL_DETAIL_SIZE], unlogged[PIL_DETAIL_SIZE];
	uint8_t id[(PIL_RUN_ID_SIZE - 1) / 2];
	enum pil_reason reason;

	check(run, inherit_ids(detail), detail);
	check(run, inherit_limits(run, detail), detail);
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

static void
split(struct run *run)
{
	int pair[2];
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == -1 ||
	    (pid = fork()) == -1)
		refuse(run, PIL_HELPER_SYSTEM, "split: %s", strerror(errno));
	if (pid == 0) {
		(void)close(pair[0]);
		run->front = pair[1];
		monitor(run);
	}
	(void)close(pair[1]);
	if (run->audit_file != -1)
		(void)close(run->audit_file);
	if (run->audit_log != -1)
		(void)close(run->audit_log);
	front(run, pair[0], pid);
}

int
main(int argc, char **argv)
{
	static struct run run = { .audit_file = -1, .audit_log = -1,
	    .front = -1, .slot = { -1, -1, -1, -1, -1, -1 },
	    .control = { -1, -1 },
	    .cgroup = { .leaf = { { .parent = -1, .dir = -1 },
	    { .parent = -1, .dir = -1 }, { .parent = -1, .dir = -1 },
	    { .parent = -1, .dir = -1 } } }, .payload = { .pidfd = -1 },
	    .usage = { .memory_peak = -1, .pids_peak = -1 } };
	char *nothing[] = { NULL };
	const char *wrong;
	size_t size;

	if (argc < 1)
		_exit(201);
	size = options_size(environ);
	run.environment = environ;
	environ = nothing;
	run.mask = umask(077);
	run.pid = getpid();
	run.parent = getppid();
	run.pilot = (struct ids){ getuid(), getgid() };
	wrong = options_parse(&run.options, argc, argv, size);
	if (inherit_descriptors(&run.options, &wrong) == -1 ||
	    inherit_signals() == -1)
		refuse(&run, PIL_HELPER_SYSTEM, "descriptors and signals: %s",
		    strerror(errno));
	if (wrong != NULL)
		refuse(&run, PIL_HELPER_USAGE, "%s", wrong);
	if (run.options.verb == VERB_VERSION ||
	    run.options.verb == VERB_CHECK_CONFIG ||
	    run.options.verb == VERB_CONTROL)
		answer_unprivileged(&run, argv);
	prepare(&run);
	if (run.options.verb == VERB_CLEANUP)
		cleanup(&run);
	split(&run);
	_exit(202);	/* never reached; fail safe */
}
