/*
 * As a payload: leave what a cleaner may not think of (E12). Prints the kinds
 * that this machine let it make.
 *	leave make UID	objects that it has given to UID, a lock, keys, a queue
 *	leave look	as the account later on: which keys are still there?
 *	leave drop	take the keys away
 */
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/syscall.h>

#include <fcntl.h>
#include <linux/keyctl.h>
#include <mqueue.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NAME	"pilotage-attack"

static const struct {
	const char	*kind;
	long		 ring;
} rings[] = {
	{ "user", KEY_SPEC_USER_KEYRING },
	{ "session", KEY_SPEC_USER_SESSION_KEYRING },
};

static long
control(int what, long a, long b, const void *c, const void *d)
{
	return syscall(SYS_keyctl, what, a, b, c, d);
}

/* The one that outlives even the keyrings of the uid; its serial, or -1. */
static long
persistent(void)
{
	return control(KEYCTL_GET_PERSISTENT, -1, KEY_SPEC_PROCESS_KEYRING,
	    NULL, NULL);
}

static long
find(long ring)
{
	return syscall(SYS_keyctl, KEYCTL_SEARCH, ring, "user", NAME, 0);
}

static void
keys(int make)
{
	long ring;
	size_t i;

	for (i = 0; i <= sizeof(rings) / sizeof(rings[0]); i++) {
		const char *kind = i < 2 ? rings[i].kind : "persistent";

		ring = i < 2 ? rings[i].ring : persistent();
		if (ring == -1)
			continue;
		if (make == 1 && syscall(SYS_add_key, "user", NAME, "kept", 4,
		    ring) != -1)
			printf("key-%s\n", kind);
		if (make == 0 && find(ring) != -1)
			printf("key-%s\n", kind);
		if (make == -1)
			(void)control(KEYCTL_CLEAR, ring, 0, NULL, NULL);
	}
}

/* Whoever made an object may give it away and stays its creator. */
static void
objects(uid_t other)
{
	struct shmid_ds shm;
	struct msqid_ds msg;
	struct semid_ds sem;
	int id;

	id = shmget(IPC_PRIVATE, 4096, IPC_CREAT | 0600);
	if (id != -1 && shmctl(id, IPC_STAT, &shm) == 0) {
		shm.shm_perm.uid = other;
		if (shmctl(id, IPC_SET, &shm) == 0)
			printf("shm\n");
	}
	id = msgget(IPC_PRIVATE, IPC_CREAT | 0600);
	if (id != -1 && msgctl(id, IPC_STAT, &msg) == 0) {
		msg.msg_perm.uid = other;
		if (msgctl(id, IPC_SET, &msg) == 0)
			printf("msg\n");
	}
	id = semget(IPC_PRIVATE, 1, IPC_CREAT | 0600);
	if (id != -1 && semctl(id, 0, IPC_STAT, &sem) == 0) {
		sem.sem_perm.uid = other;
		if (semctl(id, 0, IPC_SET, &sem) == 0)
			printf("sem\n");
	}
}

int
main(int argc, char **argv)
{
	if (argc == 2 && strcmp(argv[1], "look") == 0)
		keys(0);
	else if (argc == 2 && strcmp(argv[1], "drop") == 0)
		keys(-1);
	else if (argc == 3 && strcmp(argv[1], "make") == 0) {
		objects((uid_t)atoi(argv[2]));
		if (open("/run/lock/" NAME, O_CREAT | O_RDWR, 0600) != -1)
			printf("lock\n");
		keys(1);
		if (mq_open("/" NAME, O_CREAT | O_RDWR, 0600, NULL) != -1)
			printf("queue\n");
	} else
		return 99;
	return 0;
}
