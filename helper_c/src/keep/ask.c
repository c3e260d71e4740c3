/*
 * Programs that are asked once: what they read may be hostile, so each runs as
 * a process of its own with nothing but its two pipes, and only answers.
 */
#include <sys/resource.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "base/text.h"
#include "keep/aide.h"
#include "keep/ask.h"
#include "privsep/sys.h"

/* Our own step towards the program failed; no exit code of the programs. */
#define ASK_NOT_BEGUN	202

struct pipes {
	const struct asked *asked;
	int	in[2], out[2];
};

int
ask_limit(int resource, unsigned long value)
{
	__rlimit_resource_t which = (__rlimit_resource_t)resource;
	struct rlimit now;

	if (getrlimit(which, &now) == -1)
		return -1;
	if (value > now.rlim_max)
		value = now.rlim_max;
	now.rlim_cur = now.rlim_max = value;
	return setrlimit(which, &now);
}

static int
work(const struct run *run, void *arg)
{
	const struct pipes *pipes = arg;
	int null;

	if ((null = open("/dev/null", O_RDWR | O_CLOEXEC)) == -1 ||
	    dup2(pipes->in[0], STDIN_FILENO) == -1 ||
	    dup2(pipes->out[1], STDOUT_FILENO) == -1 ||
	    dup2(null, STDERR_FILENO) == -1 || sys_close_from(3) == -1)
		return ASK_NOT_BEGUN;
	(void)pipes->asked->become(run);
	return ASK_NOT_BEGUN;
}

/* Put more of the question into the pipe; -1: the reader is gone. */
static int
write_some(int fd, const void *data, size_t len, size_t *done)
{
	ssize_t n = write(fd, (const char *)data + *done, len - *done);

	if (n == -1)
		return errno == EAGAIN || errno == EINTR ? 0 : -1;
	*done += (size_t)n;
	return 0;
}

/*
 * Send all and read one answer and the end of file; more than was to come is
 * one byte too many. A program that stops reading has its reason; its answer
 * says it, or its death does.
 */
static size_t
talk(const struct asked *asked, const struct question *ask, char *answer,
    size_t size, long long deadline)
{
	struct pollfd fds[2] = { { asked->in, POLLOUT, 0 },
	    { asked->out, POLLIN, 0 } };
	size_t head = 0, body = 0, got = 0;
	char beyond;
	ssize_t n;
	int wrong;

	while (got <= size && sys_now_usec() < deadline) {
		if (poll(fds, 2, 100) <= 0)
			continue;
		if (fds[0].revents != 0) {
			wrong = head < ask->head_len ? write_some(fds[0].fd,
			    ask->head, ask->head_len, &head) : write_some(
			    fds[0].fd, ask->body, ask->body_len, &body);
			if (wrong == -1 || (head == ask->head_len &&
			    body == ask->body_len)) {
				(void)close(fds[0].fd);
				fds[0].fd = -1;
			}
		}
		if (fds[1].revents == 0)
			continue;
		n = got < size ? read(fds[1].fd, answer + got, size - got) :
		    read(fds[1].fd, &beyond, 1);
		if (n == 0 || (n == -1 && errno != EINTR))
			break;
		got += n > 0 ? (size_t)n : 0;
	}
	if (fds[0].fd != -1)
		(void)close(fds[0].fd);
	return got;
}

static void
close_pair(const int pair[2])
{
	if (pair[0] != -1) {
		(void)close(pair[0]);
		(void)close(pair[1]);
	}
}

enum pil_reason
ask_begin(struct run *run, struct asked *asked, struct child *child,
    char *detail)
{
	struct pipes pipes = { asked, { -1, -1 }, { -1, -1 } };

	if (pipe2(pipes.in, O_CLOEXEC) == -1 ||
	    pipe2(pipes.out, O_CLOEXEC) == -1 ||
	    fcntl(pipes.in[1], F_SETFL, O_NONBLOCK) == -1 ||
	    aide_start(run, child, work, &pipes) == -1) {
		pil_detail(detail, "the %s cannot be started: %s", asked->who,
		    strerror(errno));
		/* A payload can take the room for processes, and renew often. */
		close_pair(pipes.in);
		close_pair(pipes.out);
		return PIL_HELPER_SYSTEM;
	}
	asked->child = child;
	(void)close(pipes.in[0]);
	(void)close(pipes.out[1]);
	asked->in = pipes.in[1];
	asked->out = pipes.out[0];
	return PIL_OK;
}

enum pil_reason
ask(struct run *run, const struct asked *asked,
    const struct question *question, void *answer, size_t size, size_t *got,
    char *detail)
{
	long long deadline = sys_now_usec() + ASK_SECONDS * 1000000LL;
	int code;

	*got = talk(asked, question, answer, size, deadline);
	(void)close(asked->out);
	if ((code = aide_wait(run, asked->child, deadline)) == 0)
		return PIL_OK;
	if (code == ASK_NOT_BEGUN) {
		pil_detail(detail, "the %s could not be started", asked->who);
		return PIL_HELPER_SYSTEM;
	}
	pil_detail(detail, "the %s died or gave no answer within %d s",
	    asked->who, ASK_SECONDS);
	return asked->died;
}
