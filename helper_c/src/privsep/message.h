/*
 * What front and monitor say to each other over their socket. The front passes
 * signals on, one byte each; the monitor sends these, one per packet.
 */
#ifndef PILOTAGE_PRIVSEP_MESSAGE_H
#define PILOTAGE_PRIVSEP_MESSAGE_H

#include <stddef.h>
#include <stdint.h>

#include "base/text.h"
#include "pilotage/reason.h"

enum message_kind {
	MESSAGE_STATUS = 'S',	/* a status line */
	MESSAGE_MAP = 'M',	/* a status line, to stdout without --status-fd */
	MESSAGE_REFUSED = 'R',	/* one reason in words */
	MESSAGE_REFUSED_LOG_ONLY = 'L',	/* the same in mode log-only */
	MESSAGE_EXIT = 'X'	/* end with this code */
};

struct message {
	uint8_t		 kind;
	uint8_t		 code;		/* exit code; R and X */
	uint16_t	 number;	/* reason; R */
	char		 text[PIL_LINE_MAX];
};

/* Send one, never waiting for whoever hears it. */
void	message_send(int fd, enum message_kind, int code, enum pil_reason,
	    const char *text, size_t len);
/* Is it the reason of a refusal? */
int	message_refuses(int kind);
/* May the front pass this signal on? */
int	message_relays(int sig);

#endif
