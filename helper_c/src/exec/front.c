/*
 * The front: the caller's uid and the pid that the caller waits for. It has no
 * privilege; it passes signals to the monitor, one byte each, and writes what
 * the monitor says to the caller's descriptors.
 */
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "exec/front.h"
#include "exec/tell.h"
#include "privsep/message.h"
#include "privsep/switch.h"
#include "privsep/sys.h"

/*
 * A descriptor that tells the caller's end. Where there is none (the caller is
 * in another PID namespace) the kernel kills us then, which the monitor sees.
 */
static int
watch_caller(const struct call *call)
{
	int fd = sys_pidfd_open(call->parent);

	if (fd == -1)
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	/* It may have ended before, and then this is not its descriptor. */
	if (getppid() != call->parent)
		_exit(202);
	return fd;
}

static int
become_front(const struct call *call, int *signals)
{
	sigset_t set;
	int sig;

	if (sys_let_go(STDIN_FILENO, call->options.verb == VERB_RUN ?
	    STDOUT_FILENO : STDIN_FILENO) == -1)
		return -1;
	(void)sigemptyset(&set);
	for (sig = 1; sig < _NSIG; sig++)
		if (message_relays(sig))
			(void)sigaddset(&set, sig);
	*signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (*signals == -1 || switch_to_caller(&call->pilot) == -1)
		return -1;
	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
}

static void
relay(int signals, int monitor)
{
	struct signalfd_siginfo info;
	unsigned char sig;

	while (read(signals, &info, sizeof(info)) == sizeof(info)) {
		sig = (unsigned char)info.ssi_signo;
		(void)send(monitor, &sig, 1, MSG_DONTWAIT | MSG_NOSIGNAL);
	}
}

struct heard {
	int	any;		/* the monitor has said something */
	int	code;		/* to end with; -1: not said yet */
};

/* 0 when the monitor has closed its end. */
static int
hear(const struct call *call, int monitor, struct heard *heard)
{
	struct message message;
	ssize_t n;

	memset(&message, 0, sizeof(message));
	n = recv(monitor, &message, sizeof(message), 0);
	/* A monitor that ended before it read our last signal resets the
	 * socket; what it said before is still to be had. */
	if (n == -1 && (errno == EINTR || errno == ECONNRESET))
		return 1;
	if (n < (ssize_t)offsetof(struct message, text))
		return 0;
	message.text[sizeof(message.text) - 1] = '\0';
	heard->any = 1;
	if (message.kind == MESSAGE_EXIT || message_refuses(message.kind))
		heard->code = message.code;
	if (message.kind != MESSAGE_EXIT)
		tell_caller(&message, call->options.status_fd);
	return 1;
}

void
front(const struct call *call, int monitor, pid_t pid)
{
	struct pollfd fds[3] = { { .events = POLLIN }, { .events = POLLIN },
	    { .events = POLLIN } };
	struct message lost = { .kind = MESSAGE_REFUSED, .code = 202,
	    .number = PIL_HELPER_SYSTEM };
	struct heard heard = { .code = -1 };
	int signals, status = 0;

	/* Closing the socket is what tells the monitor. */
	if (become_front(call, &signals) == -1)
		_exit(202);
	fds[0].fd = monitor;
	fds[1].fd = signals;
	fds[2].fd = watch_caller(call);
	for (;;) {
		if (poll(fds, 3, -1) == -1 && errno != EINTR)
			break;
		if (fds[2].revents != 0)
			_exit(202);
		if (fds[1].revents & POLLIN)
			relay(signals, monitor);
		if (fds[0].revents != 0 && !hear(call, monitor, &heard))
			break;
	}
	/* Waiting puts the payload's time on the caller's account. */
	while (waitpid(pid, &status, 0) == -1 && errno == EINTR)
		;
	/*
	 * The monitor ends with the code too, if its message did not come. One
	 * that never spoke may have failed before its first line of code.
	 */
	if (heard.code == -1 && heard.any && WIFEXITED(status) &&
	    WEXITSTATUS(status) != 202)
		heard.code = WEXITSTATUS(status);
	if (heard.code == -1) {
		(void)snprintf(lost.text, sizeof(lost.text),
		    "the monitor process was lost");
		tell_caller(&lost, call->options.status_fd);
		heard.code = 202;
	}
	_exit(heard.code);
}
