/*
 * two_programs VERIFY CERTIFICATES VOMSDIR UID GID MAP PROXY [REQUEST]
 *
 * From a proxy to an account by pilotage-verify and pilotage-map alone, each
 * started and asked as pilotage-keep does it: the mapper loads while
 * the verifier works. What LCMAPS does in one process.
 * The question to the mapper is left in REQUEST, so that it can be asked again.
 * Run by root.
 */
#include <sys/random.h>
#include <sys/wait.h>

#include <err.h>
#include <fcntl.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/sha256.h"
#include "pilotage/map.h"
#include "pilotage/record.h"

struct program {
	char	**words;
	uid_t	  uid;
	gid_t	  gid;
	pid_t	  pid;
	int	  in, from;	/* our ends of its pipes */
};

static struct pil_record record;
static struct pil_map_request request;
static struct pil_map_record answer;

static void __attribute__((noreturn))
become(const struct program *program, int in, int out)
{
	char *environment[] = { NULL };

	if (dup2(in, STDIN_FILENO) == -1 || dup2(out, STDOUT_FILENO) == -1 ||
	    setgroups(0, NULL) == -1 ||
	    setresgid(program->gid, program->gid, program->gid) == -1 ||
	    setresuid(program->uid, program->uid, program->uid) == -1)
		err(1, "%s", program->words[0]);
	(void)execve(program->words[0], program->words, environment);
	err(1, "%s", program->words[0]);
}

static void
put(int fd, const void *data, size_t len)
{
	const char *at = data;
	ssize_t n;

	for (; len > 0; at += n, len -= (size_t)n)
		if ((n = write(fd, at, len)) == -1)
			err(1, "write");
}

static void
begin(struct program *program)
{
	int in[2], from[2];
	pid_t pid;

	if (pipe2(in, O_CLOEXEC) == -1 || pipe2(from, O_CLOEXEC) == -1 ||
	    (pid = fork()) == -1)
		err(1, "%s", program->words[0]);
	if (pid == 0)
		become(program, in[0], from[1]);
	(void)close(in[0]);
	(void)close(from[1]);
	program->in = in[1];
	program->from = from[0];
	program->pid = pid;
}

static void
ask(struct program *program, const void *head, size_t head_len,
    const void *body, size_t body_len, void *out, size_t size)
{
	size_t got = 0;
	ssize_t n;
	int status;

	put(program->in, head, head_len);
	put(program->in, body, body_len);
	(void)close(program->in);
	while (got < size && (n = read(program->from, (char *)out + got,
	    size - got)) > 0)
		got += (size_t)n;
	(void)close(program->from);
	if (waitpid(program->pid, &status, 0) == -1 || status != 0 ||
	    got != size)
		errx(1, "%s gave no answer", program->words[0]);
}

static void
verify(struct program *program, const char *pem, size_t len)
{
	struct pil_request question = { .version = PIL_RECORD_VERSION,
	    .pem_size = (uint32_t)len, .at = time(NULL), .skew = 300,
	    .policy = PIL_P_REQUIRE_KEY | PIL_P_REQUIRE_PROXY |
	    PIL_P_REQUIRE_CRL };
	uint8_t digest[32];

	memcpy(question.magic, PIL_RECORD_MAGIC, sizeof(question.magic));
	if (getrandom(question.nonce, sizeof(question.nonce), 0) == -1)
		err(1, "getrandom");
	ask(program, &question, sizeof(question), pem, len, &record,
	    sizeof(record));
	pil_sha256(pem, len, digest);
	if (pil_record_check(&record, sizeof(record), &question, digest,
	    time(NULL)) != PIL_OK)
		errx(1, "the verifier's answer is not sound");
	if (record.who.reason != PIL_OK)
		errx(1, "%s", record.who.detail);
}

static void
map(struct program *program, const char *keep)
{
	int fd;

	if (pil_map_request_init(&request) == -1)
		err(1, "getrandom");
	request.min_uid = request.min_gid = 1000;
	request.who = record.who;
	ask(program, &request, sizeof(request), NULL, 0, &answer,
	    sizeof(answer));
	if (pil_map_record_check(&answer, sizeof(answer), &request) != PIL_OK)
		errx(1, "the mapper's answer is not sound");
	if (answer.reason != PIL_OK)
		errx(1, "%s", answer.map.detail);
	if (keep == NULL)
		return;
	if ((fd = open(keep, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600)) ==
	    -1)
		err(1, "%s", keep);
	put(fd, &request, sizeof(request));
	(void)close(fd);
}

int
main(int argc, char **argv)
{
	static char pem[PIL_INPUT_MAX];
	char *verify_words[] = { argv[1], argv[2], argv[3],
	    (char *)(uintptr_t)"-", NULL };
	char *map_words[] = { argv[6], (char *)(uintptr_t)"answer", NULL };
	struct program verifier = { .words = verify_words };
	struct program mapper = { .words = map_words };
	ssize_t len;
	int fd;

	if (argc != 8 && argc != 9)
		errx(2, "usage: two_programs VERIFY CERTIFICATES VOMSDIR UID "
		    "GID MAP PROXY [REQUEST]");
	verifier.uid = (uid_t)strtoul(argv[4], NULL, 10);
	verifier.gid = (gid_t)strtoul(argv[5], NULL, 10);
	if ((fd = open(argv[7], O_RDONLY | O_CLOEXEC)) == -1 ||
	    (len = read(fd, pem, sizeof(pem))) <= 0)
		err(1, "%s", argv[7]);
	(void)close(fd);
	begin(&verifier);
	begin(&mapper);
	verify(&verifier, pem, (size_t)len);
	map(&mapper, argv[8]);
	(void)printf("%s\n", answer.map.account);
	return 0;
}
