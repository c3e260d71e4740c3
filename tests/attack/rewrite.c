/*
 * Change a file for a while, as fast as possible (C2, C3).
 *	rewrite rename A B PATH		PATH is A's bytes, then B's, by rename
 *	rewrite inplace A B PATH	the same, in the same file
 *	rewrite grow A PATH		A's bytes, then always more behind them
 * Prints "ready" after the first, and "enough" after 10,000; ends at TERM.
 */
#include <sys/stat.h>

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static volatile sig_atomic_t ended;

static void
end(int sig)
{
	(void)sig;
	ended = 1;
}

static size_t
load(const char *path, char *buf, size_t size)
{
	int fd = open(path, O_RDONLY);
	ssize_t n = fd == -1 ? -1 : read(fd, buf, size);

	if (n <= 0)
		exit(98);
	(void)close(fd);
	return (size_t)n;
}

int
main(int argc, char **argv)
{
	static char text[2][262144], spare[4096], more[65536];
	const char *path;
	size_t len[2];
	long n = 0;
	int fd, grow;

	if (argc < 4)
		return 99;
	path = argv[argc - 1];
	grow = strcmp(argv[1], "grow") == 0;
	len[0] = load(argv[2], text[0], sizeof(text[0]));
	len[1] = grow ? 0 : load(argv[3], text[1], sizeof(text[1]));
	(void)snprintf(spare, sizeof(spare), "%s.new", path);
	(void)signal(SIGTERM, end);
	memset(more, '\n', sizeof(more));
	while (!ended) {
		const char *to = strcmp(argv[1], "rename") == 0 ? spare : path;
		int which = grow ? 0 : (int)(n % 2);

		fd = open(to, O_WRONLY | O_CREAT | O_TRUNC, 0600);
		if (fd == -1 || write(fd, text[which], len[which]) !=
		    (ssize_t)len[which])
			return 97;
		for (int i = 0; grow && i < 64; i++)
			if (write(fd, more, sizeof(more)) == -1)
				return 96;
		(void)close(fd);
		if (to == spare && rename(spare, path) == -1)
			return 95;
		if (n++ == 0 || n == 10000) {
			printf(n == 1 ? "ready\n" : "enough\n");
			(void)fflush(stdout);
		}
	}
	return 0;
}
