/*
 * What an account may have left: processes, files in the directories that all
 * share and in spools, message queues, System V objects, keys.
 */
#include <sys/ipc.h>
#include <sys/mount.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/capability.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/text.h"
#include "mapper/remains.h"

#define PROC_MAGIC	0x9fa0
#define MQUEUE_MAGIC	0x19800202
#define KEYRINGS	2	/* that a uid has for good, if it ever had any */
#define DEPTH_MAX	32	/* each level is an open descriptor */
#define OPEN_DIRECTORY	(O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)

static const char *const shared[] = { "/tmp", "/var/tmp", "/dev/shm",
    "/run/lock", "/var/spool/cron", "/var/spool/at", "/var/spool/mail", "/var/mail",
    "/var/lib/systemd/linger" };

/* Where a file that bears the account's name acts for it, whoever owns it. */
static const char *const spools[] = { "/var/spool/cron",
    "/var/spool/cron/crontabs", "/var/spool/cron/tabs", "/var/spool/mail",
    "/var/mail", "/var/lib/systemd/linger" };

struct uids {
	uid_t	*uid;
	size_t	 n, room;
};

static int
add(struct uids *uids, uid_t uid)
{
	void *bigger;

	if (uids->n > 0 && uids->uid[uids->n - 1] == uid)
		return 0;
	if (uids->n == uids->room) {
		bigger = reallocarray(uids->uid, 2 * uids->room + 256,
		    sizeof(uid));
		if (bigger == NULL)
			return -1;
		uids->uid = bigger;
		uids->room = 2 * uids->room + 256;
	}
	uids->uid[uids->n++] = uid;
	return 0;
}

/* All four ids of a thread; one that has ended meanwhile has none. */
static int
add_thread(struct uids *uids, int at, const char *name)
{
	char path[NAME_MAX + 16], text[4096], *line;
	unsigned id[4];
	ssize_t n;
	int fd;

	(void)snprintf(path, sizeof(path), "%s/status", name);
	if ((fd = openat(at, path, O_RDONLY | O_CLOEXEC)) == -1)
		return errno == ENOENT || errno == ESRCH ? 0 : -1;
	n = read(fd, text, sizeof(text) - 1);
	(void)close(fd);
	if (n <= 0)
		return n == 0 || errno == ESRCH ? 0 : -1;
	text[n] = '\0';
	/* A dead one, which its parent has not waited for, does nothing. */
	if (strstr(text, "\nState:\tZ") != NULL ||
	    strstr(text, "\nState:\tX") != NULL)
		return 0;
	/* The name comes before it, and has its line ends escaped. */
	if ((line = strstr(text, "\nUid:")) == NULL || sscanf(line,
	    "\nUid: %u %u %u %u", &id[0], &id[1], &id[2], &id[3]) != 4)
		return -1;
	return add(uids, id[0]) == -1 || add(uids, id[1]) == -1 ||
	    add(uids, id[2]) == -1 || add(uids, id[3]) == -1 ? -1 : 0;
}

/* 1: the name is none of a process or thread; else as the visit said. */
static int
each_number(int at, const char *name, struct uids *uids,
    int (*visit)(struct uids *, int, const char *))
{
	struct dirent *entry;
	int fd = openat(at, name, OPEN_DIRECTORY), failed = 0;
	DIR *dir;

	if (fd == -1)
		return errno == ENOENT || errno == ESRCH ? 0 : -1;
	if ((dir = fdopendir(fd)) == NULL) {
		(void)close(fd);
		return -1;
	}
	while (!failed && (errno = 0, entry = readdir(dir)) != NULL)
		if (entry->d_name[0] >= '0' && entry->d_name[0] <= '9')
			failed = visit(uids, fd, entry->d_name) == -1;
	/* A process that ends while its threads are listed is gone. */
	failed |= entry == NULL && errno != 0 && errno != ESRCH &&
	    errno != ENOENT;
	(void)closedir(dir);
	return failed ? -1 : 0;
}

static int
add_process(struct uids *uids, int at, const char *name)
{
	char path[NAME_MAX + 16];

	(void)snprintf(path, sizeof(path), "%s/task", name);
	return each_number(at, path, uids, add_thread);
}

static int
by_value(const void *left, const void *right)
{
	uid_t a = *(const uid_t *)left, b = *(const uid_t *)right;

	return a < b ? -1 : a > b;
}

/* Where /proc hides others' processes, this shows them. */
static int
sees_everything(void)
{
	struct __user_cap_header_struct head = { _LINUX_CAPABILITY_VERSION_3,
	    0 };
	struct __user_cap_data_struct data[2];

	return syscall(SYS_capget, &head, data) == 0 &&
	    (data[0].effective & 1u << CAP_SYS_PTRACE) != 0;
}

int
remains_running(uid_t **uid, size_t *n, char *detail)
{
	struct uids uids = { NULL, 0, 0 };
	struct statfs fs;

	if (statfs("/proc", &fs) == -1 || fs.f_type != PROC_MAGIC ||
	    !sees_everything() ||
	    each_number(AT_FDCWD, "/proc", &uids, add_process) == -1 ||
	    uids.n == 0) {
		pil_detail(detail, "the machine's processes cannot be seen");
		free(uids.uid);
		return -1;
	}
	qsort(uids.uid, uids.n, sizeof(*uids.uid), by_value);
	*uid = uids.uid;
	*n = uids.n;
	return 0;
}

int
remains_queues(void)
{
	int fs, fd = -1, mount;
	struct statfs st;

	/* A mount of our own, in no directory; where there is one, that. */
	fs = (int)syscall(SYS_fsopen, "mqueue", 1 /* close on exec */);
	if (fs != -1 && syscall(SYS_fsconfig, fs, 6 /* create */, NULL, NULL,
	    0) == 0) {
		mount = (int)syscall(SYS_fsmount, fs, 1 /* the same */, 0);
		if (mount != -1) {
			fd = openat(mount, ".", OPEN_DIRECTORY);
			(void)close(mount);
		}
	}
	if (fs != -1)
		(void)close(fs);
	if (fd != -1)
		return fd;
	if ((fd = open("/dev/mqueue", OPEN_DIRECTORY)) == -1)
		return -1;
	if (fstatfs(fd, &st) == 0 && st.f_type == MQUEUE_MAGIC)
		return fd;
	(void)close(fd);
	return -1;
}

/* Takes and closes the directory. Other mounts below it are not entered. */
static void
walk(const struct dues *dues, int fd, const char *top, dev_t device, int depth)
{
	struct dirent *entry;
	struct stat st;
	int below;
	DIR *dir;

	if ((dir = fdopendir(fd)) == NULL) {
		due_keep_all(dues, "%s: %s", top, strerror(errno));
		(void)close(fd);
		return;
	}
	while ((errno = 0, entry = readdir(dir)) != NULL) {
		const char *name = entry->d_name;

		if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
			continue;
		if (fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW |
		    AT_NO_AUTOMOUNT) == -1) {
			if (errno != ENOENT)
				due_keep_all(dues, "%s: %s: %s", top, name,
				    strerror(errno));
			continue;
		}
		due_keep(dues, st.st_uid, "it owns %s in %s", name, top);
		if (st.st_dev != device)
			due_keep_all(dues, "%s below %s is another file "
			    "system, which is not looked at", name, top);
		else if (S_ISDIR(st.st_mode) && depth == DEPTH_MAX)
			due_keep_all(dues, "%s below %s is too deep to be "
			    "looked at", name, top);
		else if (S_ISDIR(st.st_mode)) {
			below = openat(fd, name, OPEN_DIRECTORY);
			if (below != -1)
				walk(dues, below, top, device, depth + 1);
			else if (errno != ENOENT)
				due_keep_all(dues, "%s: %s: %s", top, name,
				    strerror(errno));
		}
	}
	if (errno != 0)
		due_keep_all(dues, "%s: %s", top, strerror(errno));
	(void)closedir(dir);
}

static void
walk_from(const struct dues *dues, int fd, const char *top)
{
	struct stat st;

	if (fd == -1 || fstat(fd, &st) == -1)
		due_keep_all(dues, "%s: %s", top, strerror(errno));
	else
		walk(dues, fd, top, st.st_dev, 0);
}

static void
keep_owner(const struct dues *dues, const struct ipc_perm *perm,
    const char *what)
{
	due_keep(dues, perm->uid, "it owns %s", what);
	due_keep(dues, perm->cuid, "it made %s", what);
}

static void
check_objects(const struct dues *dues)
{
	struct shmid_ds shm;
	struct msqid_ds msg;
	struct semid_ds sem;
	struct shm_info shm_info;
	struct msginfo msg_info;
	struct seminfo sem_info;
	int i, top[3];

	top[0] = shmctl(0, SHM_INFO, (struct shmid_ds *)(void *)&shm_info);
	top[1] = msgctl(0, MSG_INFO, (struct msqid_ds *)(void *)&msg_info);
	top[2] = semctl(0, 0, SEM_INFO, &sem_info);
	if (top[0] == -1 || top[1] == -1 || top[2] == -1)
		due_keep_all(dues, "System V objects: %s", strerror(errno));
	/* EINVAL is an unused index. */
	for (i = 0; i <= top[0]; i++)
		if (shmctl(i, SHM_STAT_ANY, &shm) != -1)
			keep_owner(dues, &shm.shm_perm, "shared memory");
		else if (errno != EINVAL)
			due_keep_all(dues, "shared memory cannot be seen");
	for (i = 0; i <= top[1]; i++)
		if (msgctl(i, MSG_STAT_ANY, &msg) != -1)
			keep_owner(dues, &msg.msg_perm, "a message queue");
		else if (errno != EINVAL)
			due_keep_all(dues, "message queues cannot be seen");
	for (i = 0; i <= top[2]; i++)
		if (semctl(i, 0, SEM_STAT_ANY, &sem) != -1)
			keep_owner(dues, &sem.sem_perm, "semaphores");
		else if (errno != EINVAL)
			due_keep_all(dues, "semaphores cannot be seen");
}

/*
 * Those of processes that have just ended go within seconds, and then the next
 * pass finds none. What they are only their owner sees.
 */
int
remains_keys(uid_t uid)
{
	FILE *file = fopen("/proc/key-users", "re");
	unsigned who, keys;
	char line[256];
	int found = 0;

	/* A kernel without keys. */
	if (file == NULL)
		return errno != ENOENT;
	while (!found && fgets(line, sizeof(line), file) != NULL)
		found = sscanf(line, "%u: %*d %*d/%*d %u/", &who, &keys) != 2 ||
		    (who == uid && keys > KEYRINGS);
	(void)fclose(file);
	return found;
}

static void
check_spool(const struct dues *dues, const char *path)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	const struct due *due;
	struct stat st;

	if (fd == -1) {
		if (errno != ENOENT)
			due_keep_all(dues, "%s: %s", path, strerror(errno));
		return;
	}
	for (due = dues->due; due < dues->due + dues->n; due++)
		if (due->account[0] != '\0' && (fstatat(fd, due->account, &st,
		    AT_SYMLINK_NOFOLLOW) == 0 || errno != ENOENT))
			due_keep(dues, due->uid, "%s has a file of its name",
			    path);
	(void)close(fd);
}

void
remains_check(const struct dues *dues, int queues)
{
	size_t i;
	int fd;

	for (i = 0; i < sizeof(shared) / sizeof(shared[0]); i++) {
		/* These are root's own names, so links may be followed. */
		fd = open(shared[i], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (fd != -1 || errno != ENOENT)
			walk_from(dues, fd, shared[i]);
	}
	for (i = 0; i < sizeof(spools) / sizeof(spools[0]); i++)
		check_spool(dues, spools[i]);
	if (queues == -1)
		due_keep_all(dues, "message queues cannot be looked at");
	else
		walk_from(dues, queues, "the message queues");
	check_objects(dues);
}
