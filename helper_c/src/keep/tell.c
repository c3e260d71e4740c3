/*
 * How a run speaks to the front and to the log, and its last words.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "keep/aide.h"
#include "keep/audit.h"
#include "keep/cgroup.h"
#include "keep/glexec.h"
#include "keep/oldlog.h"
#include "keep/slot.h"
#include "keep/tell.h"

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

void
tell_front(const struct run *run, enum message_kind kind, int code,
    enum pil_reason reason, const char *text, size_t len)
{
	message_send(run->front, kind, code, reason, text, len);
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
	(void)oldlog_end(run);
}

void
refuse_code(struct run *run, int code, enum pil_reason reason,
    const char *text)
{
	aide_end(&run->aide);
	aide_end(&run->mapper);
	/* In this order: an init is gone only when all of its own are reaped. */
	aide_end(&run->payload);
	aide_end(&run->init);
	slot_release(run);
	(void)cgroup_remove(&run->cgroup);
	if (run->audit_file != -1 || run->audit_log != -1)
		log_refusal(run, code, reason, text);
	tell_front(run, run->mode != NULL ? MESSAGE_REFUSED_LOG_ONLY :
	    MESSAGE_REFUSED, code, reason, text, strlen(text));
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
