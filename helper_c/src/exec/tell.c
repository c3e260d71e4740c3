/*
 * How pilotage-exec speaks to its caller, as the caller. Only the front, or
 * the process before the split, writes to the caller's descriptors (helper.md
 * A16).
 */
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/text.h"
#include "exec/tell.h"
#include "privsep/switch.h"
#include "privsep/sys.h"

#define CALLER_USEC	1000000		/* how long a full pipe is waited for */

/* The same as the reason table's: may the request succeed later, unchanged? */
static int
may_retry(enum pil_reason reason)
{
	switch (reason) {
	case PIL_CERTIFICATE_NOT_YET_VALID:
	case PIL_CRL_EXPIRED:
	case PIL_CRL_MISSING:
	case PIL_VOMS_NOT_YET_VALID:
	case PIL_POOL_EXHAUSTED:
	case PIL_ACCOUNT_LOOKUP:
	case PIL_ACCOUNT_IN_USE:
	case PIL_AUDIT_UNAVAILABLE:
	case PIL_TIME_SLOT_CLOSED:
	case PIL_VERIFIER_FAILED:
	case PIL_MAPPER_FAILED:
	case PIL_HELPER_SYSTEM:
	case PIL_CGROUP_FAILED:
	case PIL_ISOLATION_FAILED:
	case PIL_FRONT_LOST:
	case PIL_CLEANUP_INCOMPLETE:
		return 1;
	default:
		return 0;
	}
}

/* A line that the pipe does not take whole within a second is given up. */
static void
write_line(int fd, const char *line, size_t len)
{
	if (sys_wait(fd, POLLOUT, sys_now_usec() + CALLER_USEC) == 1)
		(void)!write(fd, line, len);
}

void
tell_caller(const struct message *message, int status_fd)
{
	enum pil_reason reason = (enum pil_reason)message->number;
	const char *name = pil_reason_name(reason);
	char line[PIL_DETAIL_SIZE + 128];
	struct pil_json json;
	int len;

	if (!message_refuses(message->kind)) {
		if (status_fd == -1 && message->kind == MESSAGE_MAP)
			status_fd = STDOUT_FILENO;
		if (status_fd != -1)
			write_line(status_fd, message->text,
			    strnlen(message->text, sizeof(message->text)));
		return;
	}
	len = snprintf(line, sizeof(line), "pilotage-exec: refused: %s (%d): "
	    "%.*s\n", name, reason, PIL_DETAIL_SIZE, message->text);
	write_line(STDERR_FILENO, line, (size_t)len);
	if (status_fd == -1)
		return;
	pil_json_open(&json);
	pil_json_string(&json, "event", "refused");
	pil_json_int(&json, "code", message->code);
	pil_json_int(&json, "number", reason);
	pil_json_string(&json, "reason", name);
	pil_json_bool(&json, "retry", may_retry(reason));
	pil_json_string(&json, "message", message->text);
	if (message->kind == MESSAGE_REFUSED_LOG_ONLY)
		pil_json_string(&json, "mode", "log-only");
	write_line(status_fd, json.buf, pil_json_close(&json));
}

void
refuse_call(const struct call *call, enum pil_reason reason,
    const char *fmt, ...)
{
	struct message message = { .kind = MESSAGE_REFUSED };
	va_list ap;

	message.code = reason == PIL_HELPER_USAGE ? 201 : 202;
	message.number = (uint16_t)reason;
	va_start(ap, fmt);
	pil_vdetail(message.text, fmt, ap);
	va_end(ap);
	if (switch_to_caller(&call->pilot) == -1)
		_exit(202);
	tell_caller(&message,
	    call->options.status_fd != -1 ? PIL_STATUS_FD : -1);
	_exit(message.code);
}
