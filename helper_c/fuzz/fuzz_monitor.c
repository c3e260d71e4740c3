/*
 * The socket between front and monitor, and the pipe from the payload's
 * process before its execve: what each side does with any bytes.
 *
 * The input's first byte says who hears: 'm' the monitor, from a front that
 * the caller has taken over (packets: one byte length, bytes); 'c' the monitor,
 * from the child; anything else the front, from the monitor.
 */
#include <sys/mman.h>

/* What the front prints for people is caught in a file here. */
#include <unistd.h>
#undef STDERR_FILENO
#define STDERR_FILENO	said

static int said = -1;

#include "exec/tell.c"
#include "exec/front.c"
#include "keep/watch.c"

#include <fcntl.h>

#include "fuzz.h"

static struct run run = { .named = &run.map };

static void
drain(int fd)
{
	static char bytes[2 * sizeof(struct message)];

	while (recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT) > 0)
		;
}

static void
monitor_hears_front(int peer, const uint8_t *data, size_t len)
{
	struct watch w = { .run = &run, .failed = -1, .deadline = NEVER };
	size_t n;

	while (len > 1) {
		n = data[0] < len - 1 ? data[0] : len - 1;
		MUST(send(peer, data + 1, n, 0) == (ssize_t)n);
		hear_front(&w);
		data += n + 1;
		len -= n + 1;
	}
	/* An empty packet is the end, as a closed socket is. */
	MUST(w.why == PIL_OK || w.why == PIL_FRONT_LOST);
	MUST(w.why == PIL_OK || w.deadline != NEVER);
}

static void
monitor_hears_child(int peer, const uint8_t *data, size_t len)
{
	struct watch w = { .run = &run, .deadline = NEVER };
	int fds[2];

	if (len > 4096)
		len = 4096;
	MUST(pipe2(fds, O_CLOEXEC) == 0);
	MUST(write(fds[1], data, len) == (ssize_t)len);
	MUST(close(fds[1]) == 0);
	w.failed = fds[0];
	hear_child(&w);
	MUST(w.failed == -1);
	MUST(memchr(w.failure.detail, '\0', PIL_DETAIL_SIZE) != NULL);
	drain(peer);
}

static void
front_hears_monitor(int peer, const uint8_t *data, size_t len)
{
	char text[2 * PIL_LINE_MAX];
	struct heard heard = { .code = -1 };
	struct call call = { .options = { .status_fd = said } };
	ssize_t n;

	if (len > 2 * sizeof(struct message))
		len = 2 * sizeof(struct message);
	MUST(ftruncate(said, 0) == 0 && lseek(said, 0, SEEK_SET) == 0);
	MUST(send(run.front, data, len, 0) == (ssize_t)len);
	(void)hear(&call, peer, &heard);
	MUST(heard.code >= -1 && heard.code <= 255);
	MUST(heard.any || heard.code == -1);
	n = pread(said, text, sizeof(text), 0);
	MUST(n >= 0 && n < (ssize_t)sizeof(text));
	/* A refusal is told twice, in words and as JSON, each one line. */
	if (n > 0 && data[0] == MESSAGE_REFUSED)
		MUST(text[n - 1] == '\n');
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	int pair[2];

	if (len < 1)
		return 0;
	if (said == -1) {
		said = memfd_create("said", 0);
		run.payload.pidfd = run.init.pidfd = -1;
		run.audit_file = run.audit_log = -1;
	}
	MUST(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0);
	run.front = pair[1];
	if (data[0] == 'm')
		monitor_hears_front(pair[0], data + 1, len - 1);
	else if (data[0] == 'c')
		monitor_hears_child(pair[0], data + 1, len - 1);
	else
		front_hears_monitor(pair[0], data, len);
	MUST(close(pair[0]) == 0 && close(pair[1]) == 0);
	return 0;
}
