/*
 * As a payload: leave trees that are hard to remove (C7).
 *	mess deep N	N directories in each other
 *	mess wide N	N files in one directory
 *	mess swap DIR VICTIM	for ever: each entry of DIR is now a directory
 *			with a file, now a link to VICTIM, now a file
 */
#include <sys/stat.h>

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int
deep(long n)
{
	while (n-- > 0)
		if (mkdir("d", 0700) == -1 || chdir("d") == -1)
			return 97;
	return 0;
}

static int
wide(long n)
{
	char name[32];
	int fd;

	if (mkdir("wide", 0700) == -1 || chdir("wide") == -1)
		return 97;
	while (n-- > 0) {
		(void)snprintf(name, sizeof(name), "f%ld", n);
		if ((fd = open(name, O_WRONLY | O_CREAT, 0600)) == -1)
			return 96;
		(void)close(fd);
	}
	return 0;
}

static int
swap(const char *dir, const char *victim)
{
	char name[16], spare[32];
	long n;
	int fd;

	for (n = 0; n < 64; n++)
		(void)signal((int)n, SIG_IGN);
	if (chdir(dir) == -1)
		return 97;
	printf("ready\n");
	(void)fflush(stdout);
	for (n = 0;; n++) {
		(void)snprintf(name, sizeof(name), "s%ld", n % 16);
		(void)snprintf(spare, sizeof(spare), ".spare%ld", n % 16);
		(void)unlink(spare);
		(void)snprintf(spare, sizeof(spare), "%s/g", name);
		(void)unlink(spare);
		(void)rmdir(name);
		(void)unlink(name);
		if (n / 16 % 3 == 0) {
			if (mkdir(name, 0700) == 0 && (fd = open(spare,
			    O_WRONLY | O_CREAT | O_NOFOLLOW, 0600)) != -1)
				(void)close(fd);
		} else if (n / 16 % 3 == 1)
			(void)!symlink(victim, name);
		else if ((fd = open(name, O_WRONLY | O_CREAT, 0600)) != -1)
			(void)close(fd);
		/* The run directory itself goes and comes, too. */
		if (access(".", W_OK) == -1 || (n % 4096 == 0 &&
		    chdir(dir) == -1))
			usleep(100);
	}
}

int
main(int argc, char **argv)
{
	if (argc == 3 && strcmp(argv[1], "deep") == 0)
		return deep(atol(argv[2]));
	if (argc == 3 && strcmp(argv[1], "wide") == 0)
		return wide(atol(argv[2]));
	if (argc == 4 && strcmp(argv[1], "swap") == 0)
		return swap(argv[2], argv[3]);
	return 99;
}
