/*
 * The payload's process is made, START is logged, and only then it is let go.
 */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "keep/audit.h"
#include "keep/begin.h"
#include "keep/monitor.h"
#include "keep/oldlog.h"
#include "keep/payload.h"
#include "keep/tell.h"
#include "privsep/sys.h"

/* A caller that has gone wants no payload any more. */
void
begin_check(struct run *run)
{
	struct pollfd pfd = { .fd = run->front, .events = POLLIN };

	if (poll(&pfd, 1, 0) == 1 && (pfd.revents & (POLLHUP | POLLERR)) != 0)
		refuse(run, PIL_FRONT_LOST, "the caller ended first");
}

void
begin(struct run *run)
{
	struct start start = { -1, -1 };
	struct pil_json json;

	run->start_usec = sys_now_usec();
	if (payload_clone(run, &start) == -1)
		refuse(run, PIL_HELPER_SYSTEM, "payload: %s", strerror(errno));
	audit_begin(run, &json, "START");
	pil_json_int(&json, "payload_pid", run->payload.pid);
	if (audit_write(run, &json) == -1)
		refuse(run, PIL_AUDIT_UNAVAILABLE, "START cannot be logged");
	run->started = 1;
	if (oldlog_begin(run) == -1)
		refuse(run, PIL_AUDIT_UNAVAILABLE, "the legacy lines cannot "
		    "be logged");
	/* The payload's pipes must close with the payload. */
	if (sys_let_go(STDIN_FILENO, STDERR_FILENO) == -1)
		refuse(run, PIL_HELPER_SYSTEM, "descriptors: %s",
		    strerror(errno));
	watch(run, start.go, start.failed);
}
