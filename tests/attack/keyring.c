/*
 * A key of the pilot's session keyring is not the payload's (D9).
 *	keyring give PROGRAM ...	make a session with a key, start PROGRAM
 *	keyring take SERIAL		as a payload: look for it in every way
 */
#include <sys/syscall.h>

#include <errno.h>
#include <linux/keyctl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NAME	"pilotage-attack"

static long
control(int what, long a, const void *b, const void *c, long d)
{
	return syscall(SYS_keyctl, what, a, b, c, d);
}

static int
give(char **argv)
{
	char serial[32], *last;
	long session;
	int i;

	session = control(KEYCTL_JOIN_SESSION_KEYRING, 0, NULL, NULL, 0);
	if (session == -1 || syscall(SYS_add_key, "user", NAME, "secret", 6,
	    KEY_SPEC_SESSION_KEYRING) == -1) {
		fprintf(stderr, "no keyrings: %s\n", strerror(errno));
		return 77;
	}
	/* The last argument is the payload's: the session's number. */
	for (i = 0; argv[i + 1] != NULL; i++)
		;
	(void)snprintf(serial, sizeof(serial), "%ld", session);
	last = serial;
	argv[i] = last;
	(void)execv(argv[0], argv);
	return 98;
}

static int
take(long session)
{
	char bytes[16];
	long key;

	if (control(KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING, NULL, NULL,
	    0) == session)
		printf("the same session\n");
	if ((key = syscall(SYS_request_key, "user", NAME, NULL, 0)) != -1)
		printf("found the key %ld\n", key);
	if (control(KEYCTL_SEARCH, session, "user", NAME, 0) != -1)
		printf("searched the session\n");
	if (control(KEYCTL_LINK, session, (void *)KEY_SPEC_PROCESS_KEYRING,
	    NULL, 0) != -1)
		printf("linked the session\n");
	if (control(KEYCTL_READ, session, bytes, (void *)sizeof(bytes), 0) !=
	    -1)
		printf("read the session\n");
	printf("tried\n");
	return 0;
}

int
main(int argc, char **argv)
{
	if (argc > 3 && strcmp(argv[1], "give") == 0)
		return give(argv + 2);
	if (argc == 3 && strcmp(argv[1], "take") == 0)
		return take(atol(argv[2]));
	return 99;
}
