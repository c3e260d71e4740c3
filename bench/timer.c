/*
 * timer ROUNDS SEED < plan > times
 *
 * Whole-process time of commands: fork, execve, wait4. Each round runs every
 * command of the plan once, in an order of its own, so that what the machine
 * does meanwhile strikes all of them alike.
 *
 * A line of the plan is a command: uid, gid, a file for descriptor 0 and the
 * words, each ended by a tab. A line of the times is round, command, wall
 * nanoseconds and user and system microseconds of it and all that it waited
 * for. A command that does not end with 0 ends the measurement.
 */
#include <sys/resource.h>
#include <sys/wait.h>

#include <err.h>
#include <fcntl.h>
#include <grp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define COMMANDS_MAX	32
#define WORDS_MAX	64

struct command {
	uid_t	 uid;
	gid_t	 gid;
	char	*input;
	char	*words[WORDS_MAX + 1];
};

static struct command commands[COMMANDS_MAX];
static size_t ncommands;
static uint64_t state;

static unsigned long
number(const char *text, const char *what)
{
	char *end;
	unsigned long n = text != NULL ? strtoul(text, &end, 10) : 0;

	if (text == NULL || *text == '\0' || *end != '\0')
		errx(2, "%s: not a number", what);
	return n;
}

static void
take_line(char *line)
{
	struct command *command = &commands[ncommands];
	size_t n = 0;
	char *word;

	if (ncommands == COMMANDS_MAX)
		errx(2, "more than %d commands", COMMANDS_MAX);
	command->uid = (uid_t)number(strtok(line, "\t"), "uid");
	command->gid = (gid_t)number(strtok(NULL, "\t"), "gid");
	command->input = strtok(NULL, "\t");
	while ((word = strtok(NULL, "\t\n")) != NULL) {
		if (n == WORDS_MAX)
			errx(2, "more than %d words", WORDS_MAX);
		command->words[n++] = word;
	}
	if (n == 0)
		errx(2, "a command without words");
	ncommands++;
}

static void
read_plan(void)
{
	char *line = NULL;
	size_t room = 0;

	while (getline(&line, &room, stdin) > 0) {
		take_line(line);
		line = NULL;	/* the words stay in it */
		room = 0;
	}
	if (ncommands == 0)
		errx(2, "no commands");
}

/* xorshift64*: an order that anybody can have again by the same seed. */
static size_t
below(size_t n)
{
	state ^= state >> 12;
	state ^= state << 25;
	state ^= state >> 27;
	return (size_t)((state * 2685821657736338717ull) >> 33) % n;
}

static void
shuffle(size_t *order)
{
	size_t i, j, kept;

	for (i = 0; i < ncommands; i++)
		order[i] = i;
	for (i = ncommands - 1; i > 0; i--) {
		j = below(i + 1);
		kept = order[i];
		order[i] = order[j];
		order[j] = kept;
	}
}

static void __attribute__((noreturn))
become(const struct command *command)
{
	static char *environment[] = { (char *)(uintptr_t)
	    "PATH=/usr/bin:/bin", NULL };
	int in = open(command->input, O_RDONLY | O_CLOEXEC);
	int null = open("/dev/null", O_WRONLY | O_CLOEXEC);

	if (in == -1 || null == -1 || dup2(in, STDIN_FILENO) == -1 ||
	    dup2(null, STDOUT_FILENO) == -1)
		err(125, "%s", command->input);
	if (getuid() == 0 && (setgroups(0, NULL) == -1 ||
	    setresgid(command->gid, command->gid, command->gid) == -1 ||
	    setresuid(command->uid, command->uid, command->uid) == -1))
		err(125, "uid %u", command->uid);
	(void)execve(command->words[0], command->words, environment);
	err(125, "%s", command->words[0]);
}

static void
measure(unsigned long round, size_t which)
{
	struct timespec before, after;
	struct rusage usage;
	int status;
	pid_t pid;

	if (clock_gettime(CLOCK_MONOTONIC, &before) == -1 ||
	    (pid = fork()) == -1)
		err(1, "fork");
	if (pid == 0)
		become(&commands[which]);
	if (wait4(pid, &status, 0, &usage) == -1 ||
	    clock_gettime(CLOCK_MONOTONIC, &after) == -1)
		err(1, "wait4");
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
		errx(1, "command %zu, %s, ended with status 0x%x", which,
		    commands[which].words[0], status);
	(void)printf("%lu %zu %lld %lld %lld\n", round, which,
	    (after.tv_sec - before.tv_sec) * 1000000000ll +
	    after.tv_nsec - before.tv_nsec,
	    usage.ru_utime.tv_sec * 1000000ll + usage.ru_utime.tv_usec,
	    usage.ru_stime.tv_sec * 1000000ll + usage.ru_stime.tv_usec);
	/* Nothing of ours may wait in a buffer while a command runs. */
	if (fflush(stdout) == EOF)
		err(1, "times");
}

int
main(int argc, char **argv)
{
	size_t order[COMMANDS_MAX], i;
	unsigned long round, rounds;

	if (argc != 3)
		errx(2, "usage: timer ROUNDS SEED");
	rounds = number(argv[1], "ROUNDS");
	state = number(argv[2], "SEED") | 1;
	read_plan();
	for (round = 0; round < rounds; round++) {
		shuffle(order);
		for (i = 0; i < ncommands; i++)
			measure(round, order[i]);
	}
	return 0;
}
