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
	static char *many[60001], *large[18];
	char *wild[] = { "\xff\xfe%n", "run", "--proxy", "", "--job-id",
	    "\x80\n\x1b]0;x\a", "--status-fd", "-1", "--", "", NULL };
	int i;

	if (argc != 3 || name == NULL)
		return 99;
	for (i = 0; i < 60000; i++)
		many[i] = "--";
	for (i = 0; i < 17; i++)
		large[i] = name;
	memset(name, '%', 120 * 1024);
	name[120 * 1024] = '\0';
	if (strcmp(argv[1], "null") == 0)
		syscall(SYS_execve, argv[2], NULL, environment);
	else if (strcmp(argv[1], "empty") == 0)
		execve(argv[2], empty, environment);
	else if (strcmp(argv[1], "long-name") == 0)
		execve(argv[2], longname, environment);
	else if (strcmp(argv[1], "many") == 0)
		execve(argv[2], many, environment);
	else if (strcmp(argv[1], "large") == 0)
		execve(argv[2], large, environment);
	else if (strcmp(argv[1], "wild") == 0)
		execve(argv[2], wild, environment);
	perror("execve");
	return 98;
}
