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
 * Records are read, and the dead buried, in bury.c.
 */
#include <sys/file.h>
#include <sys/stat.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/sha256.h"
#include "base/text.h"
#include "base/trusted.h"
#include "keep/bury.h"
#include "keep/slot.h"
#include "privsep/order.h"
#include "privsep/sys.h"

#define LOCK_USEC	15000000
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

int
slot_enter(struct run *run)
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

int
slot_lock(struct run *run)
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

void
slot_owner(const struct run *run, char hex[65])
{
	const char *dn = run->record.who.dn;
	uint8_t digest[32];

	pil_sha256(dn, strlen(dn), digest);
	pil_hex(digest, sizeof(digest), hex);
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

	if (slot_enter(run) == -1) {
		pil_detail(detail, "%s", strerror(errno));
		return PIL_HELPER_SYSTEM;
	}
	if (slot_lock(run) == -1) {
		pil_detail(detail, "account %s is being cleaned: %s",
		    run->map.account, strerror(errno));
		return errno == EWOULDBLOCK ? PIL_ACCOUNT_IN_USE :
		    PIL_HELPER_SYSTEM;
	}
	if ((living = bury_look(run)) < 0) {
		pil_detail(detail, living == BURY_ANOTHERS ?
		    "another owner's run is on account %s" :
		    "the runs on account %s cannot be looked at",
		    run->map.account);
		return living == BURY_ANOTHERS ? PIL_ACCOUNT_IN_USE :
		    PIL_HELPER_SYSTEM;
	}
	if (bury_dead(run, living == 0) < 0) {
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

int
slot_record(struct run *run)
{
	static char text[RECORD_MAX];
	char owner[65];
	enum tree tree;
	int len;

	slot_owner(run, owner);
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
	if (slot_lock(run) == -1)
		return -1;
	if ((living = bury_look(run)) < 0)
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
	/* Before the process ends: that may wait for what the caller gave it. */
	if (run->slot.starting != -1)
		(void)close(run->slot.starting);
	run->slot.record = run->slot.lock = run->slot.starting = -1;
	run->slot.begun = 0;
}

void
slot_release(struct run *run)
{
	/* What there is of it, if making it was cut short. */
	if (run->slot.begun)
		bury_record(run, run->id);
	slot_abandon(run);
}
