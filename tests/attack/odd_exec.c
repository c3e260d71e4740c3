/* Start a program with an argument list that no shell would make (A1, A2). */
#include <sys/syscall.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int
main(int argc, char **argv)
{
	char *empty[] = { "", NULL };
	char *name = malloc(120 * 1024 + 1);
	char *longname[] = { name, "--version", NULL };
	char *environment[] = { NULL };

	if (argc != 3 || name == NULL)
		return 99;
	memset(name, '%', 120 * 1024);
	name[120 * 1024] = '\0';
	if (strcmp(argv[1], "null") == 0)
		syscall(SYS_execve, argv[2], NULL, environment);
	else if (strcmp(argv[1], "empty") == 0)
		execve(argv[2], empty, environment);
	else if (strcmp(argv[1], "long-name") == 0)
		execve(argv[2], longname, environment);
	perror("execve");
	return 98;
}
