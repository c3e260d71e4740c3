/*
 * pilotage-sweep HOME RUN_ID run|account
 *
 * Remove what a run left: its run directory and, with "account", whatever the
 * account has in the directories that all share, and its System V objects.
 *
 * pilotage-keep starts it as the account, without privilege, descriptors or
 * environment, so that root never deletes anything. The exit status is the
 * number of things that are left, 250 at most; 251: the arguments are wrong.
 */
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/stat.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "sweep/tree.h"

#define MANY		250	/* an exit status counts no further */
#define USAGE		251
#define RUN_ID_LENGTH	32
#define OPEN_DIRECTORY	(O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)

static const char *const shared_directories[] = { "/tmp", "/var/tmp",
    "/dev/shm", "/dev/mqueue" };

static int
remove_owned(const char *path, uid_t uid)
{
	struct dirent *entry;
	struct stat st;
	int fd, left = 0;
	DIR *dir;

	if ((fd = open(path, OPEN_DIRECTORY)) == -1)
		return 0;
	if ((dir = fdopendir(fd)) == NULL) {
		(void)close(fd);
		return 1;
	}
	while ((entry = readdir(dir)) != NULL) {
		if (strcmp(entry->d_name, ".") == 0 ||
		    fstatat(fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) ==
		    -1 || st.st_uid != uid)
			continue;
		left += tree_remove(fd, entry->d_name) != 0;
	}
	(void)closedir(dir);
	return left;
}

/* System V objects by their index; those of others cannot be removed. */
static void
remove_objects(uid_t uid)
{
	struct shmid_ds shm;
	struct msqid_ds msg;
	struct semid_ds sem;
	struct shm_info shm_info;
	struct msginfo msg_info;
	struct seminfo sem_info;
	int i, id, top;

	top = shmctl(0, SHM_INFO, (struct shmid_ds *)(void *)&shm_info);
	for (i = 0; i <= top; i++)
		if ((id = shmctl(i, SHM_STAT_ANY, &shm)) != -1 &&
		    shm.shm_perm.uid == uid)
			(void)shmctl(id, IPC_RMID, NULL);
	top = msgctl(0, MSG_INFO, (struct msqid_ds *)(void *)&msg_info);
	for (i = 0; i <= top; i++)
		if ((id = msgctl(i, MSG_STAT_ANY, &msg)) != -1 &&
		    msg.msg_perm.uid == uid)
			(void)msgctl(id, IPC_RMID, NULL);
	top = semctl(0, 0, SEM_INFO, &sem_info);
	for (i = 0; i <= top; i++)
		if ((id = semctl(i, 0, SEM_STAT_ANY, &sem)) != -1 &&
		    sem.sem_perm.uid == uid)
			(void)semctl(id, 0, IPC_RMID);
}

static int
is_run_id(const char *text)
{
	return strlen(text) == RUN_ID_LENGTH &&
	    strspn(text, "0123456789abcdef") == RUN_ID_LENGTH;
}

int
main(int argc, char **argv)
{
	char name[RUN_ID_LENGTH + 16];
	int home, left = 0;
	size_t i;

	if (argc != 4 || argv[1][0] != '/' || !is_run_id(argv[2]) ||
	    getuid() == 0 || geteuid() != getuid())
		return USAGE;
	(void)snprintf(name, sizeof(name), "pilotage-%s", argv[2]);
	/* A payload may have shut its own home. */
	home = open(argv[1], OPEN_DIRECTORY);
	if (home == -1 && errno == EACCES &&
	    fchmodat(AT_FDCWD, argv[1], 0700, AT_SYMLINK_NOFOLLOW) == 0)
		home = open(argv[1], OPEN_DIRECTORY);
	if (home != -1)
		left += tree_remove(home, name) != 0;
	/* In a home that is missing, or is none, nothing was ever made. */
	else if (errno != ENOENT && errno != ENOTDIR && errno != ELOOP)
		left++;
	if (strcmp(argv[3], "account") == 0) {
		remove_objects(getuid());
		for (i = 0; i < sizeof(shared_directories) /
		    sizeof(shared_directories[0]); i++)
			left += remove_owned(shared_directories[i], getuid());
	}
	return left < MANY ? left : MANY;
}
