/*
 * How a run speaks to its caller, and its last words.
 */
#include <sys/socket.h>

#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "exec/aide.h"
#include "exec/audit.h"
#include "exec/cgroup.h"
#include "exec/glexec.h"
#include "exec/slot.h"
#include "exec/switch.h"
#include "exec/sys.h"
#include "exec/tell.h"

#define CALLER_USEC	1000000		/* how long a full pipe is waited for */

int
tell_code(enum pil_reason reason)
{
	switch (reason) {
	case PIL_HELPER_USAGE:
	case PIL_PROXY_FILE_UNUSABLE:
	case PIL_TARGET_PROXY_UNUSABLE:
	case PIL_COMMAND_UNUSABLE:
		return 201;
	case PIL_HELPER_PRIVILEGE:
	case PIL_HELPER_NO_NEW_PRIVS:
	case PIL_HELPER_USER_NAMESPACE:
	case PIL_HELPER_LIMITS:
	case PIL_HELPER_CONFIG_UNUSABLE:
	case PIL_HELPER_CONFIG_INVALID:
	case PIL_AUDIT_UNAVAILABLE:
	case PIL_ACCOUNT_LOOKUP:
	case PIL_HELPER_SYSTEM:
	case PIL_SWITCH_FAILED:
	case PIL_CGROUP_FAILED:
	case PIL_ISOLATION_FAILED:
	case PIL_FRONT_LOST:
	case PIL_CLEANUP_INCOMPLETE:
		return 202;
	default:
		return 203;
	}
}

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

void
tell_front(const struct run *run, enum message_kind kind, int code,
    enum pil_reason reason, const char *text, size_t len)
{
	struct message message = { 0 };

	message.kind = (uint8_t)kind;
	message.code = (uint8_t)code;
	message.number = (uint16_t)reason;
	memcpy(message.text, text,
	    len < sizeof(message.text) ? len : sizeof(message.text));
	/* A front that is gone or stopped must not hold the monitor up. */
	(void)send(run->front, &message, offsetof(struct message, text) + len,
	    MSG_DONTWAIT | MSG_NOSIGNAL);
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

	if (message->kind != MESSAGE_REFUSED) {
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
	write_line(status_fd, json.buf, pil_json_close(&json));
}

static void
log_refusal(const struct run *run, int code, enum pil_reason reason,
    const char *text)
{
	struct pil_json json;

	audit_begin(run, &json, run->started ? "END" : "REFUSED");
	pil_json_int(&json, "code", code);
	pil_json_string(&json, "reason", pil_reason_name(reason));
	pil_json_string(&json, "message", text);
	/* There is nobody left to tell if this fails: the run ends anyway. */
	(void)audit_write(run, &json);
}

void
refuse_code(struct run *run, int code, enum pil_reason reason,
    const char *text)
{
	struct message message = { 0 };
	size_t len = strlen(text);

	/* In this order: an init is gone only when all of its own are reaped. */
	aide_end(&run->payload);
	aide_end(&run->init);
	slot_release(run);
	(void)cgroup_remove(&run->cgroup);
	if (run->audit_file != -1 || run->audit_log != -1)
		log_refusal(run, code, reason, text);
	if (run->front != -1) {
		tell_front(run, MESSAGE_REFUSED, code, reason, text, len);
		_exit(code);
	}
	if (switch_to_caller(run) == -1)
		_exit(202);
	message.kind = MESSAGE_REFUSED;
	message.code = (uint8_t)code;
	message.number = (uint16_t)reason;
	(void)snprintf(message.text, sizeof(message.text), "%s", text);
	tell_caller(&message,
	    run->options.status_fd != -1 ? PIL_STATUS_FD : -1);
	_exit(code);
}

void
refuse(struct run *run, enum pil_reason reason, const char *fmt, ...)
{
	char text[PIL_DETAIL_SIZE];
	va_list ap;

	va_start(ap, fmt);
	pil_vdetail(text, fmt, ap);
	va_end(ap);
	refuse_code(run, run->options.glexec ? glexec_code(reason) :
	    tell_code(reason), reason, text);
}
