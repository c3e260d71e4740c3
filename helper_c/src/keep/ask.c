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
	const struct question *question;
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
	(void)pipes->question->become(run);
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
 * Send all and read one answer and the end of file. A program that stops
 * reading has its reason; its answer says it, or its death does.
 */
static size_t
talk(const struct pipes *pipes, char *answer, size_t size, long long deadline)
{
	const struct question *ask = pipes->question;
	struct pollfd fds[2] = { { pipes->in[1], POLLOUT, 0 },
	    { pipes->out[0], POLLIN, 0 } };
	size_t head = 0, body = 0, got = 0;
	ssize_t n;
	int wrong;

	while (got < size && sys_now_usec() < deadline) {
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
		n = read(fds[1].fd, answer + got, size - got);
		if (n == 0 || (n == -1 && errno != EINTR))
			break;
		got += n > 0 ? (size_t)n : 0;
	}
	if (fds[0].fd != -1)
		(void)close(fds[0].fd);
	return got;
}

enum pil_reason
ask(struct run *run, const struct question *question, enum pil_reason died,
    void *answer, size_t size, size_t *got, char *detail)
{
	long long deadline = sys_now_usec() + ASK_SECONDS * 1000000LL;
	struct pipes pipes = { .question = question };
	int code;

	if (pipe2(pipes.in, O_CLOEXEC) == -1 ||
	    pipe2(pipes.out, O_CLOEXEC) == -1 ||
	    fcntl(pipes.in[1], F_SETFL, O_NONBLOCK) == -1 ||
	    aide_start(run, work, &pipes) == -1) {
		pil_detail(detail, "the %s cannot be started: %s",
		    question->who, strerror(errno));
		return PIL_HELPER_SYSTEM;
	}
	(void)close(pipes.in[0]);
	(void)close(pipes.out[1]);
	*got = talk(&pipes, answer, size, deadline);
	(void)close(pipes.out[0]);
	if ((code = aide_wait(run, deadline)) == 0)
		return PIL_OK;
	if (code == ASK_NOT_BEGUN) {
		pil_detail(detail, "the %s could not be started",
		    question->who);
		return PIL_HELPER_SYSTEM;
	}
	pil_detail(detail, "the %s died or gave no answer within %d s",
	    question->who, ASK_SECONDS);
	return died;
}
