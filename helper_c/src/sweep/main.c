/*
 * pilotage-sweep HOME RUN_ID run
 * pilotage-sweep HOME RUN_ID account [DIRECTORY ...]
 *
 * Remove what a run left: its run directory and, with "account", whatever the
 * account has directly in these directories, its System V objects and the keys
 * that the kernel keeps for its uid.
 *
 * pilotage-keep starts it as the account, without privilege, descriptors or
 * environment, so that root never deletes anything. The exit status is the
 * number of things that are left, 250 at most; 251: the arguments are wrong.
 */
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/syscall.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/keyctl.h>
#include <stddef.h>
#include <stdint.h>

#include "sweep/kernel.h"
#include "sweep/tree.h"

#define MANY		250	/* an exit status counts no further */
#define USAGE		251
#define RUN_ID_LENGTH	32
#define OPEN_DIRECTORY	(O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)

static uid_t
who_am_i(void)
{
	return (uid_t)kernel(SYS_getuid, 0, 0, 0, 0, 0);
}

static int
remove_owned(const char *path, uid_t uid)
{
	static struct directory dir;
	struct entry entry;
	int fd, left = 0;

	if ((fd = open_at(AT_FDCWD, path, OPEN_DIRECTORY)) < 0)
		return 0;
	use_directory(&dir, fd);
	while (next_entry(&dir, &entry))
		if (owner_at(fd, entry.name) == uid)
			left += tree_remove(fd, entry.name) != 0;
	close_fd(fd);
	return left;
}

static int
objects(long number, long a, long b, void *answer)
{
	return (int)kernel(number, a, b, (long)(uintptr_t)answer, 0, 0);
}

/* Who made an object may have given it to another uid, and stays its creator. */
static int
is_of(const struct ipc_perm *perm, uid_t uid)
{
	return perm->uid == uid || perm->cuid == uid;
}

/* System V objects by their index; those of others cannot be removed. */
static int
remove_objects(uid_t uid)
{
	struct shmid_ds shm;
	struct msqid_ds msg;
	struct semid_ds sem;
	struct shm_info shm_info;
	struct msginfo msg_info;
	struct seminfo sem_info;
	int i, id, top, left = 0;

	top = objects(SYS_shmctl, 0, SHM_INFO, &shm_info);
	for (i = 0; i <= top; i++)
		if ((id = objects(SYS_shmctl, i, SHM_STAT_ANY, &shm)) >= 0 &&
		    is_of(&shm.shm_perm, uid))
			left += objects(SYS_shmctl, id, IPC_RMID, NULL) < 0;
	top = objects(SYS_msgctl, 0, MSG_INFO, &msg_info);
	for (i = 0; i <= top; i++)
		if ((id = objects(SYS_msgctl, i, MSG_STAT_ANY, &msg)) >= 0 &&
		    is_of(&msg.msg_perm, uid))
			left += objects(SYS_msgctl, id, IPC_RMID, NULL) < 0;
	/* Semaphores have a number between; it is of no use here. */
	top = (int)kernel(SYS_semctl, 0, 0, SEM_INFO,
	    (long)(uintptr_t)&sem_info, 0);
	for (i = 0; i <= top; i++)
		if ((id = (int)kernel(SYS_semctl, i, 0, SEM_STAT_ANY,
		    (long)(uintptr_t)&sem, 0)) >= 0 && is_of(&sem.sem_perm, uid))
			left += kernel(SYS_semctl, id, 0, IPC_RMID, 0, 0) < 0;
	return left;
}

static long
keys(long order, long ring, long into)
{
	return kernel(SYS_keyctl, order, ring, into, 0, 0);
}

/*
 * The keyrings that the kernel keeps for a uid whatever ends. One that the
 * payload has shut even to itself stays, and is told; where there is none, or
 * none can be made, or the calls are barred, there is nothing in it.
 */
static int
remove_keys(void)
{
	long persistent = keys(KEYCTL_GET_PERSISTENT, -1,
	    KEY_SPEC_PROCESS_KEYRING);
	int left = persistent == -EACCES;

	if (persistent >= 0)
		left += keys(KEYCTL_CLEAR, persistent, 0) < 0;
	left += keys(KEYCTL_CLEAR, KEY_SPEC_USER_KEYRING, 0) == -EACCES;
	left += keys(KEYCTL_CLEAR, KEY_SPEC_USER_SESSION_KEYRING, 0) == -EACCES;
	return left;
}

static int
is_run_id(const char *text)
{
	int n = 0;

	while ((*text >= '0' && *text <= '9') || (*text >= 'a' && *text <= 'f')) {
		text++;
		n++;
	}
	return n == RUN_ID_LENGTH && *text == '\0';
}

int
main(int argc, char **argv)
{
	char name[RUN_ID_LENGTH + 16];
	uid_t uid = who_am_i();
	int home, left = 0, i;

	if (argc < 4 || argv[1][0] != '/' || !is_run_id(argv[2]) || uid == 0 ||
	    (uid_t)kernel(SYS_geteuid, 0, 0, 0, 0, 0) != uid)
		return USAGE;
	*put_text(put_text(name, "pilotage-"), argv[2]) = '\0';
	home = open_at(AT_FDCWD, argv[1], OPEN_DIRECTORY);
	/* A payload may have shut its own home. */
	if (home == -EACCES && allow_at(AT_FDCWD, argv[1]) == 0)
		home = open_at(AT_FDCWD, argv[1], OPEN_DIRECTORY);
	if (home >= 0)
		left += tree_remove(home, name) != 0;
	/* In a home that is missing, or is none, nothing was ever made. */
	else if (home != -ENOENT && home != -ENOTDIR && home != -ELOOP)
		left++;
	if (is_same(argv[3], "account")) {
		left += remove_objects(uid) + remove_keys();
		for (i = 4; i < argc; i++)
			left += remove_owned(argv[i], uid);
	}
	return left < MANY ? left : MANY;
}
