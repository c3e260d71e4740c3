/*
 * The run's place on its account.
 *
 *	RUNDIR/jobs/<run id>/record	what this run is, locked by its monitor
 *	RUNDIR/accounts/<uid>/<run id>	the same file again, for each run on it
 *	RUNDIR/accounts/<uid>/lock	held while runs come and go; sweep.c notes in it
 *	RUNDIR/accounts/starting	shared by runs that may have an account
 *					and no record there yet: while anybody
 *					does, no lease is recycled
 *
 * A record that nobody locks belongs to a monitor that died: the kernel drops
 * the lock with the process, so no pid is ever trusted. All is root's, 0700.
 */
#include <sys/file.h>
#include <sys/stat.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/ini.h"
#include "base/sha256.h"
#include "base/text.h"
#include "base/trusted.h"
#include "keep/cgroup.h"
#include "keep/slot.h"
#include "keep/sweep.h"
#include "privsep/order.h"
#include "privsep/sys.h"

#define LOCK_USEC	15000000
#define RECORD_MAX	20480
#define OPEN_DIRECTORY	(O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)

static int
make_directory(int at, const char *name, mode_t mode)
{
	struct stat st;
	int fd;

	if (mkdirat(at, name, mode) == -1 && errno != EEXIST)
		return -1;
	if ((fd = openat(at, name, OPEN_DIRECTORY)) == -1)
		return -1;
	/* Whatever the umask; nobody else could have made it here. */
	if (fstat(fd, &st) == 0 && st.st_uid == 0 &&
	    (st.st_mode & (S_IWGRP | S_IWOTH)) == 0 && fchmod(fd, mode) == 0)
		return fd;
	(void)close(fd);
	errno = EPERM;
	return -1;
}

int
slot_open(struct run *run, char *detail)
{
	char parent[PATH_MAX];
	char *name;
	int at, base;

	(void)snprintf(parent, sizeof(parent), "%s", PILOTAGE_RUNDIR);
	name = strrchr(parent, '/');
	*name++ = '\0';
	at = pil_open_trusted(parent[0] != '\0' ? parent : "/",
	    O_RDONLY | O_DIRECTORY, 0, detail);
	if (at == -1)
		return -1;
	/* Callers go through these two, by name, to their control sockets. */
	base = make_directory(at, name, 0711);
	(void)close(at);
	if (base != -1) {
		run->slot.jobs = make_directory(base, "jobs", 0711);
		run->slot.accounts = make_directory(base, "accounts", 0700);
		(void)close(base);
	}
	if (run->slot.jobs != -1 && run->slot.accounts != -1)
		return 0;
	pil_detail(detail, PILOTAGE_RUNDIR ": %s", strerror(errno));
	return -1;
}

/* Open the mapped account's own directory there. */
static int
enter(struct run *run)
{
	char uid[16];

	(void)snprintf(uid, sizeof(uid), "%u", run->map.uid);
	run->slot.account = make_directory(run->slot.accounts, uid, 0700);
	return run->slot.account == -1 ? -1 : 0;
}

static int
wait_lock(int dir, const char *name, int how)
{
	const struct timespec pause = { 0, 5 * 1000 * 1000 };
	long long deadline = sys_now_usec() + LOCK_USEC;
	int fd = openat(dir, name, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC,
	    0600);

	while (fd != -1 && flock(fd, how | LOCK_NB) == -1) {
		if (errno != EWOULDBLOCK || sys_now_usec() > deadline) {
			(void)close(fd);
			return -1;
		}
		(void)nanosleep(&pause, NULL);
	}
	return fd;
}

static int
take_lock(struct run *run)
{
	run->slot.lock = wait_lock(run->slot.account, "lock", LOCK_EX);
	return run->slot.lock == -1 ? -1 : 0;
}

enum pil_reason
slot_begin(struct run *run, char *detail)
{
	if (slot_open(run, detail) == -1)
		return PIL_HELPER_SYSTEM;
	run->slot.starting = wait_lock(run->slot.accounts, "starting", LOCK_SH);
	if (run->slot.starting != -1)
		return PIL_OK;
	pil_detail(detail, PILOTAGE_RUNDIR "/accounts/starting: %s", strerror(errno));
	return PIL_HELPER_SYSTEM;
}

/* The owner as a fixed text: the digest of the DN as the verifier writes it. */
static void
owner_digest(const struct run *run, char hex[65])
{
	const char *dn = run->record.who.dn;
	uint8_t digest[32];

	pil_sha256(dn, strlen(dn), digest);
	pil_hex(digest, sizeof(digest), hex);
}

struct found {
	char	text[RECORD_MAX];
	const char *owner, *cgroup[NTREES], *account, *home;
	unsigned long caller, uid, gid;
};

static const char *
take(void *arg, char *section, char *key, char *value)
{
	struct found *found = arg;

	(void)section;
	if (key != NULL && strcmp(key, "owner") == 0)
		found->owner = value;
	else if (key != NULL && strcmp(key, "account") == 0)
		found->account = value;
	else if (key != NULL && strcmp(key, "home") == 0)
		found->home = value;
	else if (key != NULL && strcmp(key, "caller_uid") == 0)
		found->caller = strtoul(value, NULL, 10);
	else if (key != NULL && strcmp(key, "uid") == 0)
		found->uid = strtoul(value, NULL, 10);
	else if (key != NULL && strcmp(key, "gid") == 0)
		found->gid = strtoul(value, NULL, 10);
	else if (key != NULL && strncmp(key, "cgroup", 6) == 0 &&
	    key[6] >= '0' && key[6] < '0' + NTREES)
		found->cgroup[key[6] - '0'] = value;
	return NULL;
}

/*
 * Root's own file that nobody else can write; a pipe in its place would hold
 * us up for ever.
 */
static int
open_record(int at, const char *path)
{
	int fd = openat(at, path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK |
	    O_CLOEXEC);
	struct stat st;

	if (fd == -1)
		return -1;
	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_uid == 0 &&
	    (st.st_mode & (S_IWGRP | S_IWOTH)) == 0)
		return fd;
	(void)close(fd);
	errno = EPERM;
	return -1;
}

static int
read_record(int fd, struct found *found)
{
	char detail[PIL_DETAIL_SIZE];
	long n = pil_read_all(fd, found->text, sizeof(found->text) - 1);

	memset(found->cgroup, 0, sizeof(found->cgroup));
	found->owner = found->account = found->home = "";
	found->caller = found->uid = found->gid = 0;
	if (n == -1)
		return -1;
	found->text[n] = '\0';
	return pil_ini_parse(found->text, (size_t)n, take, found, detail);
}

static int
gone(int at, const char *name, int flags)
{
	return unlinkat(at, name, flags) == 0 || errno == ENOENT;
}

/* The name below accounts goes last: while it stays, the next run tries again. */
static void
remove_record(const struct run *run, const char *id)
{
	char control[PIL_RUN_ID_SIZE + 16], record[PIL_RUN_ID_SIZE + 16];

	(void)snprintf(control, sizeof(control), "%s/" PIL_CONTROL, id);
	(void)snprintf(record, sizeof(record), "%s/record", id);
	if (gone(run->slot.jobs, control, 0) &&
	    gone(run->slot.jobs, record, 0) &&
	    gone(run->slot.jobs, id, AT_REMOVEDIR))
		(void)unlinkat(run->slot.account, id, 0);
}

/* Kill and remove what a run without a monitor left. */
static int
bury(struct run *run, const char *id, const struct found *found, int alone)
{
	static struct cgroup group;
	enum tree tree;
	int left;

	for (tree = 0; tree < NTREES; tree++)
		(void)cgroup_open(&group, tree, found->cgroup[tree]);
	left = cgroup_kill(&group) != 0;
	left |= cgroup_remove(&group) != 0;
	if (alone)
		left |= sweep_processes(run) != 0;
	sweep_begin(run, id, alone);
	left |= sweep_end(run) != 0;
	/* Who comes next tries again. */
	if (!left)
		remove_record(run, id);
	return left;
}

enum pass { PASS_LOOK, PASS_BURY };

#define ANOTHERS	(-1)
#define UNSEEN		(-2)
#define REMAINS		(-3)

/*
 * Go through the account's runs. LOOK: the number of living ones; ANOTHERS when
 * one is another owner's, UNSEEN when a record could not be looked at: it may
 * be one. BURY: the dead ones are removed; REMAINS when something of another
 * owner's cannot be, for that may be a process.
 */
static int
each_run(struct run *run, enum pass pass, int alone)
{
	static struct found found;
	struct dirent *entry;
	int copy, fd, living = 0, dead;
	char owner[65];
	DIR *dir;

	owner_digest(run, owner);
	if ((copy = openat(run->slot.account, ".", OPEN_DIRECTORY)) == -1)
		return UNSEEN;
	if ((dir = fdopendir(copy)) == NULL) {
		(void)close(copy);
		return UNSEEN;
	}
	while (living >= 0) {
		errno = 0;
		if ((entry = readdir(dir)) == NULL) {
			if (errno != 0)
				living = UNSEEN;
			break;
		}
		if (strlen(entry->d_name) != PIL_RUN_ID_SIZE - 1 ||
		    strcmp(entry->d_name, run->id) == 0)
			continue;
		fd = open_record(run->slot.account, entry->d_name);
		if (fd == -1) {
			if (errno != ENOENT)
				living = UNSEEN;
			continue;
		}
		dead = flock(fd, LOCK_SH | LOCK_NB) == 0;
		if (read_record(fd, &found) == -1)
			found.owner = "";
		if (!dead && strcmp(found.owner, owner) != 0)
			living = ANOTHERS;
		else if (!dead)
			living++;
		else if (pass == PASS_BURY && bury(run, entry->d_name, &found,
		    alone) != 0 && strcmp(found.owner, owner) != 0)
			living = REMAINS;
		(void)close(fd);
	}
	(void)closedir(dir);
	return living;
}

static int
create_record(struct run *run)
{
	int dir, fd, failed = 1;

	run->slot.begun = 1;
	dir = make_directory(run->slot.jobs, run->id, 0711);
	if (dir == -1)
		return -1;
	fd = openat(dir, "record", O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW |
	    O_CLOEXEC, 0600);
	if (fd != -1 && flock(fd, LOCK_EX | LOCK_NB) == 0) {
		run->slot.record = fd;
		failed = slot_record(run) == -1 || linkat(dir, "record",
		    run->slot.account, run->id, 0) == -1;
	}
	(void)close(dir);
	return failed ? -1 : 0;
}

enum pil_reason
slot_take(struct run *run, char *detail)
{
	int living;

	if (enter(run) == -1) {
		pil_detail(detail, "%s", strerror(errno));
		return PIL_HELPER_SYSTEM;
	}
	if (take_lock(run) == -1) {
		pil_detail(detail, "account %s is being cleaned: %s",
		    run->map.account, strerror(errno));
		return errno == EWOULDBLOCK ? PIL_ACCOUNT_IN_USE :
		    PIL_HELPER_SYSTEM;
	}
	if ((living = each_run(run, PASS_LOOK, 0)) < 0) {
		pil_detail(detail, living == ANOTHERS ?
		    "another owner's run is on account %s" :
		    "the runs on account %s cannot be looked at",
		    run->map.account);
		return living == ANOTHERS ? PIL_ACCOUNT_IN_USE :
		    PIL_HELPER_SYSTEM;
	}
	if (each_run(run, PASS_BURY, living == 0) < 0) {
		pil_detail(detail, "what another owner's run left on account "
		    "%s cannot be removed", run->map.account);
		return PIL_CLEANUP_INCOMPLETE;
	}
	if (create_record(run) == -1) {
		pil_detail(detail, PILOTAGE_RUNDIR "/jobs: %s",
		    strerror(errno));
		return PIL_HELPER_SYSTEM;
	}
	(void)close(run->slot.lock);
	(void)close(run->slot.starting);
	run->slot.lock = run->slot.starting = -1;
	return PIL_OK;
}

enum left
slot_clean(struct run *run, const char *id)
{
	static struct found found;
	char path[PIL_RUN_ID_SIZE + 8];
	int fd, dead, alone, left;

	(void)snprintf(path, sizeof(path), "%s/record", id);
	fd = open_record(run->slot.jobs, path);
	if (fd == -1)
		return LEFT_NOTHING;
	if (read_record(fd, &found) == -1)
		found.uid = 0;
	if (run->pilot.uid != 0 && found.caller != run->pilot.uid) {
		(void)close(fd);
		return LEFT_FOREIGN;
	}
	dead = flock(fd, LOCK_SH | LOCK_NB) == 0;
	/* A record that was never finished has no payload behind it. */
	if (!dead || found.uid == 0) {
		(void)close(fd);
		return dead ? LEFT_NOTHING : LEFT_ALIVE;
	}
	run->map.uid = (uid_t)found.uid;
	run->map.gid = (gid_t)found.gid;
	(void)snprintf(run->map.account, sizeof(run->map.account), "%s",
	    found.account);
	(void)snprintf(run->map.home, sizeof(run->map.home), "%s", found.home);
	left = 1;
	if (enter(run) == 0 && take_lock(run) == 0) {
		alone = each_run(run, PASS_LOOK, 0) == 0;
		left = bury(run, id, &found, alone);
		(void)close(run->slot.lock);
		run->slot.lock = -1;
	}
	(void)close(run->slot.account);
	(void)close(fd);
	return left ? LEFT_SOME : LEFT_REMOVED;
}

int
slot_record(struct run *run)
{
	static char text[RECORD_MAX];
	char owner[65];
	enum tree tree;
	int len;

	owner_digest(run, owner);
	len = snprintf(text, sizeof(text), "[run]\nowner = %s\n"
	    "caller_uid = %u\naccount = %s\nuid = %u\ngid = %u\nhome = %s\n"
	    "start_time = %lld\n", owner, run->pilot.uid, run->map.account,
	    run->map.uid, run->map.gid, run->map.home, (long long)time(NULL));
	for (tree = 0; tree < NTREES && len < (int)sizeof(text); tree++)
		if (run->cgroup.leaf[tree].path[0] != '\0')
			len += snprintf(text + len, sizeof(text) - (size_t)len,
			    "cgroup%d = %s\n", (int)tree,
			    run->cgroup.leaf[tree].path);
	if (len >= (int)sizeof(text) ||
	    lseek(run->slot.record, 0, SEEK_SET) == -1 ||
	    sys_write_all(run->slot.record, text, (size_t)len) == -1)
		return -1;
	return ftruncate(run->slot.record, len);
}

int
slot_hold(struct run *run)
{
	int living;

	/* In mode log-only there is none, and never was. */
	if (run->slot.account == -1)
		return 0;
	if (take_lock(run) == -1)
		return -1;
	if ((living = each_run(run, PASS_LOOK, 0)) < 0)
		return -1;
	return living == 0;
}

void
slot_abandon(struct run *run)
{
	if (run->slot.record != -1)
		(void)close(run->slot.record);
	if (run->slot.lock != -1)
		(void)close(run->slot.lock);
	run->slot.record = run->slot.lock = -1;
	run->slot.begun = 0;
}

void
slot_release(struct run *run)
{
	/* What there is of it, if making it was cut short. */
	if (run->slot.begun)
		remove_record(run, run->id);
	slot_abandon(run);
}
