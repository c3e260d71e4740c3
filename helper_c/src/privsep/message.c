/*
 * The socket between front and monitor.
 */
#include <sys/socket.h>

#include <signal.h>
#include <string.h>

#include "privsep/message.h"

void
message_send(int fd, enum message_kind kind, int code, enum pil_reason reason,
    const char *text, size_t len)
{
	struct message message = { 0 };

	if (len > sizeof(message.text))
		len = sizeof(message.text);
	message.kind = (uint8_t)kind;
	message.code = (uint8_t)code;
	message.number = (uint16_t)reason;
	memcpy(message.text, text, len);
	/* A front that is gone or stopped must not hold the monitor up. */
	(void)send(fd, &message, offsetof(struct message, text) + len,
	    MSG_DONTWAIT | MSG_NOSIGNAL);
}

int
message_refuses(int kind)
{
	return kind == MESSAGE_REFUSED || kind == MESSAGE_REFUSED_LOG_ONLY;
}

int
message_relays(int sig)
{
	switch (sig) {
	case SIGTERM:
	case SIGINT:
	case SIGHUP:
	case SIGQUIT:
	case SIGUSR1:
	case SIGUSR2:
	case SIGCONT:
		return 1;
	default:
		return 0;
	}
}
