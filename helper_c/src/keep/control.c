/*
 * The run's control socket.
 *
 * It belongs to the account that started the run and nobody else can connect;
 * the kernel's word on who did is asked all the same. The monitor never waits
 * for a client and writes to no descriptor that a client has sent.
 */
#include <sys/socket.h>
#include <sys/un.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "keep/control.h"
#include "keep/tell.h"

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

static void
hang_up(struct run *run)
{
	if (run->control.client != -1)
		(void)close(run->control.client);
	run->control.client = -1;
}

void
control_accept(struct run *run)
{
	struct ucred who = { .uid = (uid_t)-1 };
	socklen_t len = sizeof(who);

	hang_up(run);
	run->control.client = accept4(run->control.listener, NULL, NULL,
	    SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (run->control.client == -1)
		return;
	if (getsockopt(run->control.client, SOL_SOCKET, SO_PEERCRED, &who,
	    &len) == -1 || (who.uid != run->pilot.uid && who.uid != 0))
		hang_up(run);
}

int
control_hear(struct run *run, struct order *order, int *fd)
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
	n = recvmsg(run->control.client, &msg, MSG_DONTWAIT |
	    MSG_CMSG_CLOEXEC);
	if (n == -1 && (errno == EAGAIN || errno == EINTR))
		return 0;
	head = n >= 0 ? CMSG_FIRSTHDR(&msg) : NULL;
	if (head != NULL && head->cmsg_level == SOL_SOCKET &&
	    head->cmsg_type == SCM_RIGHTS &&
	    head->cmsg_len == CMSG_LEN(sizeof(int)))
		memcpy(fd, CMSG_DATA(head), sizeof(*fd));
	if (n == sizeof(*order) && !(msg.msg_flags & MSG_TRUNC))
		return 1;
	if (*fd != -1)
		(void)close(*fd);
	hang_up(run);
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
	hang_up(run);
}
