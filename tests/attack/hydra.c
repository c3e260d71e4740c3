/*
 * As a payload: processes that do not want to be found (E3, E4).
 *	hydra heads N	N processes, each in its own session, orphaned, deaf to
 *			TERM; prints "ready" and waits
 *	hydra bomb N	a fork bomb that always refills to N processes of the uid
 *	hydra leave N	as heads, but the main process ends at once with 7
 */
#include <sys/resource.h>
#include <sys/wait.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void
deaf(void)
{
	int sig;

	for (sig = 1; sig < 32; sig++)
		(void)signal(sig, SIG_IGN);
}

static void
head(void)
{
	if (fork() != 0)
		return;
	deaf();
	setsid();
	if (fork() != 0)
		_exit(0);
	setsid();
	(void)close(1);
	(void)close(2);
	for (;;)
		pause();
}

static void
bomb(int n)
{
	struct rlimit limit = { (rlim_t)n, (rlim_t)n };
	int left = 8;

	/* Bound it, or the machine goes down with the test. */
	if (setrlimit(RLIMIT_NPROC, &limit) == -1)
		_exit(99);
	deaf();
	(void)signal(SIGCHLD, SIG_DFL);
	(void)close(1);
	(void)close(2);
	while (left-- > 0)
		if (fork() == 0) {
			setsid();
			for (;;) {
				if (fork() == 0) {
					setsid();
					continue;
				}
				if (waitpid(-1, NULL, 0) == -1)
					usleep(100);
			}
		}
	for (;;)
		pause();
}

int
main(int argc, char **argv)
{
	int n = argc == 3 ? atoi(argv[2]) : 0, i;

	if (n == 0)
		return 99;
	if (strcmp(argv[1], "bomb") == 0) {
		printf("ready\n");
		(void)fflush(stdout);
		bomb(n);
	}
	for (i = 0; i < n; i++)
		head();
	printf("ready\n");
	(void)fflush(stdout);
	if (strcmp(argv[1], "leave") == 0)
		return 7;
	for (;;)
		pause();
}
