/*
 * The run's control socket.
 *
 * It belongs to the account that started the run and nobody else can connect;
 * the kernel's word on who did is asked all the same. The monitor never waits
 * for a client: it does not even take the connection, because a client can send
 * descriptors whose last close waits (a TCP socket with SO_LINGER does, a
 * file of FUSE), and whoever closes the connection closes them. A clerk takes
 * it, a process of the verifier's uid, and hands on the order and a sealed memory
 * file, which nobody waits for.
 */
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "keep/aide.h"
#include "keep/become.h"
#include "keep/control.h"
#include "keep/tell.h"
#include "privsep/message.h"
#include "privsep/sys.h"

/*
 * How long a connection that says nothing keeps the next one out, and the time
 * between two orders, each of which is a process and a line of the log.
 */
#define SILENT_USEC	100000
#define PACE_USEC	10000

#define CLIENT_FD	3
#define MONITOR_FD	4

int
control_open(struct run *run)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int dir, failed;

	dir = openat(run->slot.jobs, run->id,
	    O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (dir == -1)
		return -1;
	(void)snprintf(address.sun_path, sizeof(address.sun_path),
	    "/proc/self/fd/%d/" PIL_CONTROL, dir);
	/* Under umask 077 it is made as 0700. */
	run->control.listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC |
	    SOCK_NONBLOCK, 0);
	failed = run->control.listener == -1 ||
	    bind(run->control.listener, (struct sockaddr *)&address,
	    sizeof(address)) == -1 ||
	    fchownat(dir, PIL_CONTROL, run->pilot.uid, (gid_t)-1,
	    AT_SYMLINK_NOFOLLOW) == -1 ||
	    listen(run->control.listener, 4) == -1;
	(void)close(dir);
	return failed ? -1 : 0;
}

/* One order, and perhaps a descriptor; the length of what was read. */
static ssize_t
take(int from, int flags, struct order *order, int *fd)
{
	union {
		struct cmsghdr	 head;
		char		 space[CMSG_SPACE(sizeof(int))];
	} extra = { .space = "" };
	/* Room for one descriptor: the padding of CMSG_SPACE takes a second. */
	struct iovec iov = { order, sizeof(*order) };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1,
	    .msg_control = &extra, .msg_controllen = CMSG_LEN(sizeof(int)) };
	struct cmsghdr *head;
	ssize_t n;

	*fd = -1;
	n = recvmsg(from, &msg, flags | MSG_CMSG_CLOEXEC);
	head = n >= 0 ? CMSG_FIRSTHDR(&msg) : NULL;
	if (head != NULL && head->cmsg_level == SOL_SOCKET &&
	    head->cmsg_type == SCM_RIGHTS &&
	    head->cmsg_len == CMSG_LEN(sizeof(int)))
		memcpy(fd, CMSG_DATA(head), sizeof(*fd));
	return (msg.msg_flags & MSG_TRUNC) != 0 ? 0 : n;
}

static int
hand_on(const struct order *order, int fd)
{
	union {
		struct cmsghdr	 head;
		char		 space[CMSG_SPACE(sizeof(int))];
	} extra = { .space = "" };
	struct iovec iov = { (void *)(uintptr_t)order, sizeof(*order) };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

	/* Of nothing else is it known that closing it waits for nobody. */
	if (fd != -1 && sys_is_sealed(fd)) {
		extra.head.cmsg_level = SOL_SOCKET;
		extra.head.cmsg_type = SCM_RIGHTS;
		extra.head.cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(&extra.head), &fd, sizeof(fd));
		msg.msg_control = &extra;
		msg.msg_controllen = CMSG_LEN(sizeof(int));
	}
	return sendmsg(MONITOR_FD, &msg, MSG_NOSIGNAL) == sizeof(*order) ? 0 :
	    -1;
}

/*
 * The clerk. What it was sent is closed by its end alone, and then nothing waits
 * for a socket's peer. Without an answer the client sees the connection closed.
 */
static int
clerk(const struct run *run, void *arg)
{
	static struct message answer;
	struct ucred who = { .uid = (uid_t)-1 };
	socklen_t len = sizeof(who);
	int client, fd, monitor = *(int *)arg;
	struct order order;
	ssize_t n;

	client = accept4(run->control.listener, NULL, NULL, SOCK_CLOEXEC);
	/* Out of the way first, so that neither lands on the other. */
	if (client == -1 ||
	    (client = fcntl(client, F_DUPFD_CLOEXEC, 16)) == -1 ||
	    (monitor = fcntl(monitor, F_DUPFD_CLOEXEC, 16)) == -1 ||
	    dup2(client, CLIENT_FD) == -1 || dup2(monitor, MONITOR_FD) == -1 ||
	    sys_close_from(MONITOR_FD + 1) == -1 ||
	    become_verifier(run) == -1 ||
	    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) == -1 ||
	    getsockopt(CLIENT_FD, SOL_SOCKET, SO_PEERCRED, &who, &len) == -1 ||
	    (who.uid != run->pilot.uid && who.uid != 0) ||
	    take(CLIENT_FD, 0, &order, &fd) != sizeof(order) ||
	    hand_on(&order, fd) == -1 ||
	    (n = recv(MONITOR_FD, &answer, sizeof(answer), 0)) <= 0)
		return 1;
	(void)send(CLIENT_FD, &answer, (size_t)n, MSG_DONTWAIT | MSG_NOSIGNAL);
	return 0;
}

static void
hang_up(struct run *run, long usec)
{
	if (run->control.client != -1)
		(void)close(run->control.client);
	run->control.client = -1;
	run->control.quiet = sys_now_usec() + usec;
}

void
control_end(struct run *run)
{
	struct child *last = &run->control.clerk;

	if (last->pid == 0 || last->ended)
		return;
	/* The answer to the order that ended the run may be on its way. */
	if (run->control.client == -1)
		(void)sys_wait(last->pidfd, POLLIN,
		    sys_now_usec() + SILENT_USEC);
	(void)sys_pidfd_kill(last->pidfd, SIGKILL);
}

void
control_accept(struct run *run)
{
	struct child *last = &run->control.clerk;
	int pair[2];

	control_end(run);
	hang_up(run, SILENT_USEC);
	if (last->pid != 0)
		(void)close(last->pidfd);
	last->pid = 0;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == -1)
		return;
	if (aide_start(run, last, clerk, &pair[1]) == 0)
		run->control.client = pair[0];
	else
		(void)close(pair[0]);
	(void)close(pair[1]);
}

int
control_hear(struct run *run, struct order *order, int *fd)
{
	ssize_t n = take(run->control.client, MSG_DONTWAIT, order, fd);

	if (n == sizeof(*order))
		return 1;
	if (n == -1 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (*fd != -1)
		(void)close(*fd);
	hang_up(run, PACE_USEC);
	return 0;
}

void
control_answer(struct run *run, enum pil_reason reason, const char *detail)
{
	if (reason == PIL_OK)
		message_send(run->control.client, MESSAGE_EXIT, 0, reason, "", 0);
	else
		message_send(run->control.client, MESSAGE_REFUSED,
		    tell_code(reason), reason, detail, strlen(detail));
	hang_up(run, PACE_USEC);
}
