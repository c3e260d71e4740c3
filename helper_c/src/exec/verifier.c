/*
 * The verifier runs under its own uid, with nothing but its two pipes, for one
 * question. Whatever a hostile proxy makes of it, it can only answer.
 */
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/utsname.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/text.h"
#include "exec/aide.h"
#include "exec/switch.h"
#include "exec/sys.h"
#include "exec/verifier.h"

#define TIMEOUT_USEC	5000000

struct pipes {
	int	question[2], answer[2];
};

static int
limit(__rlimit_resource_t resource, rlim_t value)
{
	struct rlimit now;

	if (getrlimit(resource, &now) == -1)
		return -1;
	if (value > now.rlim_max)
		value = now.rlim_max;
	now.rlim_cur = now.rlim_max = value;
	return setrlimit(resource, &now);
}

static int
work(const struct run *run, void *arg)
{
	const struct config *config = &run->config;
	const struct pipes *pipes = arg;
	struct utsname host;
	const char *voms = config->voms_dir ? config->voms_dir : "-";
	char *argv[5], *environment[] = { NULL };
	int null;

	if (uname(&host) == -1 || host.nodename[0] == '\0')
		(void)strcpy(host.nodename, "-");
	argv[0] = (char *)(uintptr_t)"pilotage-verify";
	argv[1] = (char *)(uintptr_t)config->ca_dir;
	argv[2] = (char *)(uintptr_t)voms;
	argv[3] = host.nodename;
	argv[4] = NULL;
	if ((null = open("/dev/null", O_RDWR | O_CLOEXEC)) == -1 ||
	    dup2(pipes->question[0], STDIN_FILENO) == -1 ||
	    dup2(pipes->answer[1], STDOUT_FILENO) == -1 ||
	    dup2(null, STDERR_FILENO) == -1 || sys_close_from(3) == -1)
		return 1;
	if (limit(RLIMIT_CORE, 0) == -1 || limit(RLIMIT_FSIZE, 0) == -1 ||
	    limit(RLIMIT_CPU, 2) == -1 || limit(RLIMIT_NOFILE, 64) == -1 ||
	    limit(RLIMIT_AS, 256ul * 1024 * 1024) == -1)
		return 1;
	if (switch_to(&run->verifier, NULL, 0) == -1)
		return 1;
	/* NPROC counts once the uid is the verifier's; it never forks. */
	if (limit(RLIMIT_NPROC, 0) == -1 ||
	    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) == -1 ||
	    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == -1)
		return 1;
	(void)execve(PILOTAGE_VERIFY, argv, environment);
	return 1;
}

static int
make_request(const struct run *run, const struct proxy *proxy,
    struct pil_request *request)
{
	memset(request, 0, sizeof(*request));
	memcpy(request->magic, PIL_RECORD_MAGIC, sizeof(request->magic));
	request->version = PIL_RECORD_VERSION;
	request->pem_size = (uint32_t)proxy->len;
	request->at = time(NULL);
	request->skew = (int32_t)run->config.clock_skew;
	request->policy = PIL_P_REQUIRE_KEY | PIL_P_REQUIRE_PROXY;
	if (run->config.require_crl)
		request->policy |= PIL_P_REQUIRE_CRL;
	if (run->config.refuse_limited)
		request->policy |= PIL_P_REFUSE_LIMITED;
	return getrandom(request->nonce, sizeof(request->nonce), 0) ==
	    sizeof(request->nonce) ? 0 : -1;
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
 * Send request and bytes, and read one record and the end of file. A verifier
 * that stops reading has its reason; its answer says it, or its death does.
 */
static size_t
talk(const struct pipes *pipes, const struct pil_request *request,
    const struct proxy *proxy, char *answer, size_t size, long long deadline)
{
	struct pollfd fds[2] = { { pipes->question[1], POLLOUT, 0 },
	    { pipes->answer[0], POLLIN, 0 } };
	size_t sent = 0, pem = 0, got = 0;
	ssize_t n;
	int wrong;

	while (got < size && sys_now_usec() < deadline) {
		if (poll(fds, 2, 100) <= 0)
			continue;
		if (fds[0].revents != 0) {
			wrong = sent < sizeof(*request) ?
			    write_some(fds[0].fd, request, sizeof(*request),
			    &sent) : write_some(fds[0].fd, proxy->pem,
			    proxy->len, &pem);
			if (wrong == -1 || pem == proxy->len) {
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
verifier_ask(struct run *run, const struct proxy *proxy,
    struct pil_record *record, char *detail)
{
	static char answer[sizeof(*record) + 1];
	long long deadline = sys_now_usec() + TIMEOUT_USEC;
	struct pil_request request;
	struct pipes pipes;
	size_t got;

	if (make_request(run, proxy, &request) == -1 ||
	    pipe2(pipes.question, O_CLOEXEC) == -1 ||
	    pipe2(pipes.answer, O_CLOEXEC) == -1 ||
	    fcntl(pipes.question[1], F_SETFL, O_NONBLOCK) == -1 ||
	    aide_start(run, work, &pipes) == -1) {
		pil_detail(detail, "the verifier cannot be started: %s",
		    strerror(errno));
		return PIL_HELPER_SYSTEM;
	}
	(void)close(pipes.question[0]);
	(void)close(pipes.answer[1]);
	got = talk(&pipes, &request, proxy, answer, sizeof(answer), deadline);
	(void)close(pipes.answer[0]);
	if (aide_wait(run, deadline) != 0) {
		pil_detail(detail, "the verifier died or gave no answer within "
		    "%d s", TIMEOUT_USEC / 1000000);
		return PIL_VERIFIER_FAILED;
	}
	if (got == sizeof(*record))
		memcpy(record, answer, sizeof(*record));
	if (got != sizeof(*record) || pil_record_check(record, got, &request,
	    proxy->digest, time(NULL)) != PIL_OK) {
		memset(record, 0, sizeof(*record));
		pil_detail(detail, "the verifier's answer is not sound");
		return PIL_VERIFIER_RECORD;
	}
	return PIL_OK;
}
