/*
 * pilotage-exec: runs a payload as its owner's account.
 *
 * main() reads from top to bottom as phase 0 of the privileged sequence
 * (README.privsep): nothing is looked at before what the caller left us is put
 * right, and then the process splits. The parent becomes the caller for good
 * and waits; the child becomes root and pilotage-keep, which does the rest.
 */
#include <sys/socket.h>
#include <sys/stat.h>

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "exec/front.h"
#include "exec/inherit.h"
#include "exec/keeper.h"
#include "exec/options.h"
#include "exec/tell.h"
#include "privsep/handover.h"
#include "privsep/switch.h"

#define VERSION		"0.1.0"

/* The verbs that need no privilege give it up before anything else. */
static void
answer_unprivileged(const struct call *call, char **argv)
{
	char *check_argv[] = { (char *)(uintptr_t)"pilotage-map",
	    (char *)(uintptr_t)"check-config", NULL };
	char *nothing[] = { NULL };

	if (switch_to_caller(&call->pilot) == -1)
		_exit(202);
	if (call->options.verb == VERB_VERSION) {
		(void)dprintf(STDOUT_FILENO, "pilotage-exec " VERSION "\n");
		_exit(0);
	}
	if (call->options.verb == VERB_CONTROL) {
		(void)execve(PILOTAGE_CONTROL, argv, nothing);
		refuse_call(call, PIL_HELPER_SYSTEM, PILOTAGE_CONTROL ": %s",
		    strerror(errno));
	}
	(void)execve(PILOTAGE_MAP, check_argv, nothing);
	refuse_call(call, PIL_HELPER_SYSTEM, PILOTAGE_MAP ": %s",
	    strerror(errno));
}

static void
check(const struct call *call, enum pil_reason reason, const char *detail)
{
	if (reason != PIL_OK)
		refuse_call(call, reason, "%s", detail);
}

/* Without any privilege there is still mode log-only, if the site says so. */
static int
is_plain(const struct call *call, enum pil_reason reason)
{
	return (reason == PIL_HELPER_PRIVILEGE ||
	    reason == PIL_HELPER_NO_NEW_PRIVS) && geteuid() != 0 &&
	    geteuid() == call->pilot.uid;
}

static void
split(const struct call *call, int plain)
{
	int pair[2], handover;
	pid_t pid;

	if ((handover = handover_make(call)) == -1)
		refuse_call(call, PIL_HELPER_SYSTEM, "memory file: %s",
		    strerror(errno));
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == -1 ||
	    (pid = fork()) == -1)
		refuse_call(call, PIL_HELPER_SYSTEM, "split: %s",
		    strerror(errno));
	if (pid == 0)
		keeper(call, pair[1], handover, plain);
	(void)close(handover);
	(void)close(pair[1]);
	front(call, pair[0], pid);
}

int
main(int argc, char **argv)
{
	char detail[PIL_DETAIL_SIZE], *nothing[] = { NULL };
	static struct call call;
	enum pil_reason reason;
	const char *wrong;
	size_t size;

	if (argc < 1)
		_exit(201);
	size = options_size(environ);
	call.environment = environ;
	environ = nothing;
	call.mask = umask(077);
	call.pid = getpid();
	call.parent = getppid();
	call.pilot = (struct ids){ getuid(), getgid() };
	wrong = options_parse(&call.options, argc, argv, size);
	if (!call.options.glexec)
		call.environment = NULL;
	if (inherit_descriptors(&call.options, &wrong) == -1 ||
	    inherit_signals() == -1)
		refuse_call(&call, PIL_HELPER_SYSTEM,
		    "descriptors and signals: %s", strerror(errno));
	if (wrong != NULL)
		refuse_call(&call, PIL_HELPER_USAGE, "%s", wrong);
	if (call.options.verb == VERB_VERSION ||
	    call.options.verb == VERB_CHECK_CONFIG ||
	    call.options.verb == VERB_CONTROL)
		answer_unprivileged(&call, argv);
	reason = inherit_ids(detail);
	if (!is_plain(&call, reason))
		check(&call, reason, detail);
	check(&call, inherit_limits(&call, detail), detail);
	split(&call, is_plain(&call, reason));
	_exit(202);	/* never reached; fail safe */
}
