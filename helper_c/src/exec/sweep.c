/*
 * What the account leaves behind, removed with the account's rights only: root
 * deletes nothing and signals nobody by uid.
 */
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/stat.h>

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "exec/aide.h"
#include "exec/sweep.h"
#include "exec/switch.h"
#include "exec/sys.h"
#include "exec/tree.h"

#define KILL_USEC	2000000
#define FILES_USEC	60000000
#define MANY		250	/* an exit status counts no further */
#define OPEN_DIRECTORY	(O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)

static const char *const shared_directories[] = { "/tmp", "/var/tmp",
    "/dev/shm", "/dev/mqueue" };

/* A dead process whose parent has not waited for it runs no more. */
static int
is_zombie(int proc, const char *pid)
{
	char path[64], text[512], *state;
	ssize_t n;
	int fd;

	(void)snprintf(path, sizeof(path), "%.20s/stat", pid);
	if ((fd = openat(proc, path, O_RDONLY | O_CLOEXEC)) == -1)
		return 0;
	n = read(fd, text, sizeof(text) - 1);
	(void)close(fd);
	text[n > 0 ? n : 0] = '\0';
	/* The name before it may hold anything, even brackets. */
	state = strrchr(text, ')');
	return state != NULL && state[1] == ' ' && state[2] == 'Z';
}

/* Only processes of the uid can be signalled here; kill(0) finds them. */
static int
count_processes(void)
{
	DIR *dir = opendir("/proc");
	struct dirent *entry;
	int n = 0;

	if (dir == NULL)
		return 1;
	while (n < MANY && (entry = readdir(dir)) != NULL)
		if (isdigit((unsigned char)entry->d_name[0]) &&
		    atoi(entry->d_name) != getpid() &&
		    kill(atoi(entry->d_name), 0) == 0 &&
		    !is_zombie(dirfd(dir), entry->d_name))
			n++;
	(void)closedir(dir);
	return n;
}

/*
 * kill(-1) reaches every process of the uid in one call, but a fork bomb needs
 * many of them. The uid is another's, so -1 spares root and everybody else.
 */
static int
kill_all(const struct run *run, void *arg)
{
	const struct ids target = { run->map.uid, run->map.gid };
	const struct timespec pause = { 0, 1000 * 1000 };
	long long deadline = sys_now_usec() + KILL_USEC;
	int left = 0;

	(void)arg;
	if (sys_close_from(3) == -1 || switch_to_killer(&target) == -1)
		return MANY + 1;
	/* Linux answers 0 also when there was nothing that it may signal. */
	while (kill(-1, SIGKILL) == 0 && (left = count_processes()) != 0 &&
	    sys_now_usec() < deadline)
		(void)nanosleep(&pause, NULL);
	return left;
}

int
sweep_processes(struct run *run)
{
	int left;

	if (aide_start(run, kill_all, NULL) == -1)
		return -1;
	left = aide_wait(run, sys_now_usec() + 2 * KILL_USEC);
	return left > MANY ? -1 : left;
}

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

struct work {
	const char	*run_id;
	int		 everything;
};

static int
remove_all(const struct run *run, void *arg)
{
	const struct ids owner = { run->map.uid, run->map.gid };
	const struct work *work = arg;
	char name[PIL_RUN_ID_SIZE + 16];
	size_t i;
	int home, left = 0;

	if (sys_close_from(3) == -1 ||
	    switch_to(&owner, run->map.groups, run->map.ngroups) == -1)
		return MANY + 1;
	(void)snprintf(name, sizeof(name), "pilotage-%s", work->run_id);
	if ((home = open(run->map.home, OPEN_DIRECTORY)) != -1)
		left += tree_remove(home, name) != 0;
	if (work->everything) {
		remove_objects(owner.uid);
		for (i = 0; i < sizeof(shared_directories) /
		    sizeof(shared_directories[0]); i++)
			left += remove_owned(shared_directories[i], owner.uid);
	}
	return left < MANY ? left : MANY;
}

int
sweep_files(struct run *run, const char *run_id, int everything)
{
	struct work work = { run_id, everything };
	int left;

	if (aide_start(run, remove_all, &work) == -1)
		return -1;
	left = aide_wait(run, sys_now_usec() + FILES_USEC);
	return left > MANY ? -1 : left;
}
