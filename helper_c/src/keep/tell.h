/*
 * How a run speaks to the front and to the log, and its last words. The
 * monitor never writes to the caller's descriptors (helper.md A16).
 */
#ifndef PILOTAGE_KEEP_TELL_H
#define PILOTAGE_KEEP_TELL_H

#include "keep/run.h"
#include "privsep/message.h"

/* The exit code that a reason stands for. */
int	tell_code(enum pil_reason);
/* Hand a message to the front, never waiting for it. */
void	tell_front(const struct run *, enum message_kind, int code,
	    enum pil_reason, const char *text, size_t len);

/* Log the refusal, tell the front, undo what was begun, end. */
void	refuse(struct run *, enum pil_reason, const char *fmt, ...)
	    __attribute__((noreturn, format(printf, 3, 4)));
/* The same with another exit code than the reason's own. */
void	refuse_code(struct run *, int code, enum pil_reason, const char *text)
	    __attribute__((noreturn));

#endif
