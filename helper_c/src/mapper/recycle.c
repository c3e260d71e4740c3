/*
 * End the leases that nobody uses any more.
 *
 * A lease is ended by one unlink(2). Before it, everything that could still
 * belong to the owner is looked for; and three locks make sure that nobody
 * comes meanwhile: the account's own (its runs), RUNDIR/accounts/starting
 * (runs that are mapped but hold no account yet) and the directory's (other
 * mappings). An owner who came back since the lease was found due has changed
 * its time, and keeps it. No clock decides but the one of the keep time.
 */
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "base/text.h"
#include "base/trusted.h"
#include "map/gridmapdir.h"
#include "map/note.h"
#include "mapper/due.h"
#include "mapper/home.h"
#include "mapper/recycle.h"
#include "mapper/remains.h"
#include "mapper/sandbox.h"

#define ACCOUNTS	PILOTAGE_RUNDIR "/accounts"
#define OPEN_LOCK	(O_RDONLY | O_NOFOLLOW | O_CLOEXEC)
#define OPEN_DIRECTORY	(O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
#define TRIES		40	/* of 25 ms: others hold these locks as long
				 * as one run needs to begin */

struct pass {
	struct dues	 dues;
	uid_t		*running;
	size_t		 nrunning;
	int		 leases, accounts, starting, queues;
};

/*
 * On a directory that other nodes share, what they run cannot be seen. So only
 * file systems that are one node's are accepted.
 */
static int
is_local(int fd)
{
	static const unsigned long local[] = { 0xef53 /* ext */,
	    0x58465342 /* xfs */, 0x9123683e /* btrfs */,
	    0xf2f52010 /* f2fs */, 0x2fc12fc1 /* zfs */,
	    0x01021994 /* tmpfs */, 0x794c7630 /* overlay */ };
	struct statfs fs;
	size_t i;

	if (fstatfs(fd, &fs) == -1)
		return 0;
	for (i = 0; i < sizeof(local) / sizeof(local[0]); i++)
		if ((unsigned long)fs.f_type == local[i])
			return 1;
	return 0;
}

static int
try_lock(int fd, int how)
{
	const struct timespec pause = { 0, 25 * 1000 * 1000 };
	int i;

	for (i = 0; i < TRIES; i++) {
		if (flock(fd, how | LOCK_NB) == 0)
			return 0;
		if (errno != EWOULDBLOCK && errno != EINTR)
			return -1;
		(void)nanosleep(&pause, NULL);
	}
	return -1;
}

static int
open_all(struct pass *pass, const struct pil_map_config *config, char *detail)
{
	pass->leases = pil_open_trusted(config->gridmapdir,
	    O_RDONLY | O_DIRECTORY, 0, detail);
	if (pass->leases == -1)
		return -1;
	if (!is_local(pass->leases)) {
		pil_detail(detail, "%s: not on a file system of this node "
		    "alone; what others run cannot be seen",
		    config->gridmapdir);
		return -1;
	}
	pass->accounts = pil_open_trusted(ACCOUNTS, O_RDONLY | O_DIRECTORY, 0,
	    detail);
	if (pass->accounts == -1)
		return -1;
	pass->starting = openat(pass->accounts, "starting", OPEN_LOCK);
	if (pass->starting == -1) {
		pil_detail(detail, ACCOUNTS "/starting: %s; the first run "
		    "makes it", strerror(errno));
		return -1;
	}
	pass->queues = remains_queues();
	return 0;
}

/* When did runs come or go there last? All zero: there was never one. */
static int
last_change(const struct pass *pass, uid_t uid, struct timespec *changed)
{
	struct stat st;
	char name[16];

	memset(changed, 0, sizeof(*changed));
	(void)snprintf(name, sizeof(name), "%u", uid);
	if (fstatat(pass->accounts, name, &st, AT_SYMLINK_NOFOLLOW) == -1)
		return errno == ENOENT ? 0 : -1;
	*changed = st.st_ctim;
	return 0;
}

static int
same_time(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

static int
find(struct pass *pass, const struct pil_map_config *config, char *detail)
{
	struct due *due;
	size_t i;
	int held, failed;

	if ((held = pil_lease_lock(pass->leases, LOCK_SH)) == -1) {
		pil_detail(detail, "the lock: %s", strerror(errno));
		return -1;
	}
	failed = due_find(&pass->dues, pass->leases,
	    time(NULL) - (time_t)config->lease_keep, detail);
	(void)close(held);
	if (failed || remains_running(&pass->running, &pass->nrunning,
	    detail) == -1)
		return -1;
	/* From here on the site's modules of the name service are with us. */
	if (sandbox_recycler(config) == -1) {
		pil_detail(detail, "the sandbox could not be closed");
		return -1;
	}
	due_look_up(&pass->dues);
	for (i = 0; i < pass->nrunning; i++)
		due_keep(&pass->dues, pass->running[i], "it has processes");
	for (i = 0; i < pass->dues.n; i++) {
		due = &pass->dues.due[i];
		if (due->left[0] == '\0' &&
		    last_change(pass, due->uid, &due->changed) == -1)
			pil_detail(due->left, ACCOUNTS ": %s",
			    strerror(errno));
	}
	return 0;
}

/* Nothing but the lock may be there: every other name is a run's. */
static int
has_runs(int fd)
{
	int copy = openat(fd, ".", OPEN_DIRECTORY), runs = 0;
	DIR *dir = copy != -1 ? fdopendir(copy) : NULL;
	struct dirent *entry;

	if (dir == NULL)
		return 1;
	while ((errno = 0, entry = readdir(dir)) != NULL)
		runs += strcmp(entry->d_name, ".") != 0 &&
		    strcmp(entry->d_name, "..") != 0 &&
		    strcmp(entry->d_name, "lock") != 0;
	runs += errno != 0;
	(void)closedir(dir);
	return runs;
}

/* Hold the account, if runs ever were on it; the lock, -1: none, -2: kept. */
static int
hold_account(const struct pass *pass, struct due *due)
{
	char name[16];
	int fd, lock;

	(void)snprintf(name, sizeof(name), "%u", due->uid);
	fd = openat(pass->accounts, name, OPEN_DIRECTORY);
	if (fd == -1 && errno == ENOENT)
		return -1;
	lock = fd != -1 ? openat(fd, "lock", OPEN_LOCK) : -1;
	if (lock == -1 || flock(lock, LOCK_EX | LOCK_NB) == -1 ||
	    has_runs(fd)) {
		pil_detail(due->left, "a run is on it, or one that died has "
		    "not been cleaned up");
		if (lock != -1)
			(void)close(lock);
		lock = -2;
	}
	if (fd != -1)
		(void)close(fd);
	return lock;
}

static int
is_unchanged(const struct pass *pass, const struct due *due, const char *name)
{
	struct stat st;

	return fstatat(pass->leases, name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	    S_ISREG(st.st_mode) && st.st_nlink == 2 &&
	    st.st_ino == due->inode && same_time(&st.st_mtim, &due->used);
}

/* With the account held and `starting` ours alone. */
static void
end_lease(const struct pass *pass, struct due *due)
{
	struct timespec changed;
	int held;

	if (last_change(pass, due->uid, &changed) == -1 ||
	    !same_time(&changed, &due->changed)) {
		pil_detail(due->left, "a run was on it just now");
		return;
	}
	if ((held = pil_lease_lock(pass->leases, LOCK_EX | LOCK_NB)) == -1) {
		pil_detail(due->left, "the directory is in use");
		return;
	}
	if (!is_unchanged(pass, due, due->lease) ||
	    !is_unchanged(pass, due, due->account))
		pil_detail(due->left, "it was used just now");
	else if (unlinkat(pass->leases, due->lease, 0) == -1)
		pil_detail(due->left, "%s", strerror(errno));
	else
		pil_free_forget(pass->leases);
	(void)close(held);
}

static void
settle(const struct pass *pass, struct due *due)
{
	int lock = hold_account(pass, due);

	if (lock != -2 && remains_keys(due->uid))
		pil_detail(due->left, "the kernel keeps keys of it");
	else if (lock != -2 && home_is_new(due->home, due->uid, due->left) == 0) {
		if (try_lock(pass->starting, LOCK_EX) == -1)
			pil_detail(due->left, "runs are just beginning");
		else {
			end_lease(pass, due);
			(void)flock(pass->starting, LOCK_UN);
		}
	}
	if (lock >= 0)
		(void)close(lock);
}

static void
tell(const struct due *due)
{
	if (due->left[0] != '\0') {
		(void)printf("kept %s of %s: %s\n", due->account[0] != '\0' ?
		    due->account : "-", due->lease, due->left);
		return;
	}
	(void)printf("recycled %s of %s\n", due->account, due->lease);
	syslog(LOG_NOTICE, "recycled %s of %s", due->account, due->lease);
}

int
recycle(const struct pil_map_config *config)
{
	struct pass pass = { .leases = -1, .accounts = -1, .starting = -1,
	    .queues = -1 };
	char detail[PIL_DETAIL_SIZE];
	struct due *due;

	if (config->gridmapdir == NULL || config->lease_keep == 0) {
		(void)printf("no lease is ever recycled: [map] has no %s\n",
		    config->gridmapdir == NULL ? "gridmapdir" :
		    "lease_keep_seconds");
		return 0;
	}
	/* Of a file's lease that somebody breaks (home.c): it is no news. */
	(void)signal(SIGIO, SIG_IGN);
	openlog("pilotage-map", LOG_PID | LOG_NDELAY, LOG_AUTHPRIV);
	if (open_all(&pass, config, detail) == -1 ||
	    find(&pass, config, detail) == -1) {
		(void)fprintf(stderr, "pilotage-map: no lease is recycled: "
		    "%s\n", detail);
		return 202;
	}
	remains_check(&pass.dues, pass.queues);
	for (due = pass.dues.due; due < pass.dues.due + pass.dues.n; due++) {
		if (due->left[0] == '\0')
			settle(&pass, due);
		tell(due);
	}
	free(pass.dues.due);
	free(pass.running);
	return fflush(stdout) == 0 ? 0 : 202;
}
