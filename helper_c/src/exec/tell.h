/*
 * How a run speaks: to the log, to the caller, and its last words. Only the
 * front (or the process before the split, having become the caller) writes to
 * the caller's descriptors (helper.md A16).
 */
#ifndef PILOTAGE_EXEC_TELL_H
#define PILOTAGE_EXEC_TELL_H

#include "base/text.h"
#include "exec/run.h"

/* From the monitor to the front, one per packet. */
enum message_kind {
	MESSAGE_STATUS = 'S',	/* a status line */
	MESSAGE_MAP = 'M',	/* a status line, to stdout without --status-fd */
	MESSAGE_REFUSED = 'R',	/* one reason in words */
	MESSAGE_EXIT = 'X'	/* end with this code */
};

struct message {
	uint8_t		 kind;
	uint8_t		 code;		/* exit code; R and X */
	uint16_t	 number;	/* reason; R */
	char		 text[PIL_LINE_MAX];
};

/* The exit code that a reason stands for. */
int	tell_code(enum pil_reason);
/* Monitor: hand a message to the front, never waiting for it. */
void	tell_front(const struct run *, enum message_kind, int code,
	    enum pil_reason, const char *text, size_t len);
/* As the caller: write what a message says. */
void	tell_caller(const struct message *, int status_fd);

/* Log the refusal, tell the caller, undo what was begun, end. */
void	refuse(struct run *, enum pil_reason, const char *fmt, ...)
	    __attribute__((noreturn, format(printf, 3, 4)));
/* The same with another exit code than the reason's own. */
void	refuse_code(struct run *, int code, enum pil_reason, const char *text)
	    __attribute__((noreturn));

#endif
