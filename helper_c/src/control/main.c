/*
 * pilotage-control signal RUN_ID NAME [--all]
 * pilotage-control renew RUN_ID --proxy FILE
 *
 * What `pilotage-exec signal` and `renew` become once they have given up all
 * privilege: a client of the run's control socket, with the caller's rights.
 */
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "privsep/message.h"
#include "privsep/order.h"

#define ANSWER_SECONDS	30

static const struct {
	const char	*name;
	uint8_t		 number;
} signals[] = {
	{ "TERM", SIGTERM }, { "INT", SIGINT }, { "HUP", SIGHUP },
	{ "QUIT", SIGQUIT }, { "USR1", SIGUSR1 }, { "USR2", SIGUSR2 },
	{ "CONT", SIGCONT },
};

static void	refused(int code, enum pil_reason, const char *fmt, ...)
		    __attribute__((noreturn, format(printf, 3, 4)));

static void
refused(int code, enum pil_reason reason, const char *fmt, ...)
{
	char text[PIL_DETAIL_SIZE];
	va_list ap;

	va_start(ap, fmt);
	pil_vdetail(text, fmt, ap);
	va_end(ap);
	(void)fprintf(stderr, "pilotage-exec: refused: %s (%d): %s\n",
	    pil_reason_name(reason), reason, text);
	exit(code);
}

static void
usage(void)
{
	refused(201, PIL_HELPER_USAGE, "usage: signal RUN_ID TERM|INT|HUP|QUIT|"
	    "USR1|USR2|CONT [--all], or renew RUN_ID --proxy FILE");
}

static void
take_signal(struct order *order, int argc, char **argv)
{
	size_t i;

	if (argc < 4 || argc > 5 ||
	    (argc == 5 && strcmp(argv[4], "--all") != 0))
		usage();
	order->kind = ORDER_SIGNAL;
	order->all = argc == 5;
	for (i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
		if (strcmp(argv[3], signals[i].name) == 0)
			order->signal = signals[i].number;
	if (order->signal == 0)
		usage();
}

/* A copy that nobody can change any more, not even we. */
static int
seal(const char *path)
{
	static char pem[PIL_INPUT_MAX + 1];
	struct stat st;
	ssize_t n = -1;
	int fd, copy;

	fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY |
	    O_CLOEXEC);
	if (fd != -1 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) &&
	    st.st_uid == getuid() && (st.st_mode & 077) == 0)
		n = read(fd, pem, sizeof(pem));
	if (n <= 0 || n > PIL_INPUT_MAX)
		refused(201, PIL_PROXY_FILE_UNUSABLE, "%s: must be the "
		    "caller's own file of at most 256 KiB, without rights of "
		    "others", path);
	copy = memfd_create("proxy", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (copy == -1 || write(copy, pem, (size_t)n) != n ||
	    fcntl(copy, F_ADD_SEALS, PIL_SEALS) == -1)
		refused(202, PIL_HELPER_SYSTEM, "memory file: %s",
		    strerror(errno));
	explicit_bzero(pem, sizeof(pem));
	return copy;
}

static int
is_run_id(const char *text)
{
	return strlen(text) == PIL_RUN_ID_SIZE - 1 &&
	    strspn(text, "0123456789abcdef") == PIL_RUN_ID_SIZE - 1;
}

static int
dial(const char *id)
{
	const struct timeval patience = { ANSWER_SECONDS, 0 };
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	if (fd == -1 || snprintf(address.sun_path, sizeof(address.sun_path),
	    PILOTAGE_RUNDIR "/jobs/%.32s/" PIL_CONTROL, id) >=
	    (int)sizeof(address.sun_path))
		refused(202, PIL_HELPER_SYSTEM, "control socket");
	(void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience,
	    sizeof(patience));
	/* One answer for another's run and for one that is over. */
	if (!is_run_id(id) || connect(fd, (struct sockaddr *)&address,
	    sizeof(address)) == -1)
		refused(203, PIL_CALLER_NOT_ALLOWED, "no living run of yours "
		    "is %s", id);
	return fd;
}

static void
send_order(int fd, struct order *order, int file)
{
	union {
		struct cmsghdr	 head;
		char		 space[CMSG_SPACE(sizeof(int))];
	} extra = { .space = "" };
	struct iovec iov = { order, sizeof(*order) };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (file != -1) {
		extra.head.cmsg_level = SOL_SOCKET;
		extra.head.cmsg_type = SCM_RIGHTS;
		extra.head.cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(&extra.head), &file, sizeof(file));
		msg.msg_control = &extra;
		msg.msg_controllen = sizeof(extra);
	}
	if (sendmsg(fd, &msg, MSG_NOSIGNAL) != sizeof(*order))
		refused(202, PIL_HELPER_SYSTEM, "the monitor hears nothing: %s",
		    strerror(errno));
}

int
main(int argc, char **argv)
{
	static struct message answer;
	struct order order = { 0 };
	int fd, file = -1;

	if (argc < 3)
		usage();
	if (strcmp(argv[1], "signal") == 0)
		take_signal(&order, argc, argv);
	else if (strcmp(argv[1], "renew") == 0 && argc == 5 &&
	    strcmp(argv[3], "--proxy") == 0) {
		order.kind = ORDER_RENEW;
		file = seal(argv[4]);
	} else
		usage();
	fd = dial(argv[2]);
	send_order(fd, &order, file);
	if (recv(fd, &answer, sizeof(answer), 0) <
	    (ssize_t)offsetof(struct message, text))
		refused(202, PIL_HELPER_SYSTEM, "the monitor gave no answer");
	answer.text[sizeof(answer.text) - 1] = '\0';
	if (answer.kind != MESSAGE_EXIT)
		refused(answer.code, (enum pil_reason)answer.number, "%s",
		    answer.text);
	return 0;
}
