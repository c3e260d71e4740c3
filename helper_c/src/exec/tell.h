/* How pilotage-exec speaks to its caller, as the caller. */
#ifndef PILOTAGE_EXEC_TELL_H
#define PILOTAGE_EXEC_TELL_H

#include "privsep/call.h"
#include "privsep/message.h"

/* As the caller: write what a message says. */
void	tell_caller(const struct message *, int status_fd);
/* Before the split: become the caller for good, say why, end. */
void	refuse_call(const struct call *, enum pil_reason, const char *fmt, ...)
	    __attribute__((noreturn, format(printf, 3, 4)));

#endif
