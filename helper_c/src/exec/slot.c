/*
 * The run's place on its account.
 *
 *	RUNDIR/jobs/<run id>/record	what this run is, locked by its monitor
 *	RUNDIR/accounts/<uid>/<run id>	the same file again, for each run on it
 *	RUNDIR/accounts/<uid>/lock	held while runs come and go
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
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/ini.h"
#include "base/sha256.h"
#include "base/text.h"
#include "base/trusted.h"
#include "exec/cgroup.h"
#include "exec/slot.h"
#include "exec/sweep.h"
#include "exec/sys.h"

#define LOCK_USEC	15000000
#define RECORD_MAX	8192
#define OPEN_DIRECTORY	(O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)

static int
make_directory(int at, const char *name)
{
	struct stat st;
	int fd;

	if (mkdirat(at, name, 0700) == -1 && errno != EEXIST)
		return -1;
	if ((fd = openat(at, name, OPEN_DIRECTORY)) == -1)
		return -1;
	if (fstat(fd, &st) == 0 && st.st_uid == 0 && (st.st_mode & 077) == 0)
		return fd;
	(void)close(fd);
	errno = EPERM;
	return -1;
}

static int
open_directories(struct run *run, char *detail)
{
	char parent[PATH_MAX], uid[16];
	char *name;
	int at, base, accounts = -1;

	(void)snprintf(parent, sizeof(parent), "%s", PILOTAGE_RUNDIR);
	name = strrchr(parent, '/');
	*name++ = '\0';
	(void)snprintf(uid, sizeof(uid), "%u", run->map.uid);
	at = pil_open_trusted(parent[0] != '\0' ? parent : "/",
	    O_RDONLY | O_DIRECTORY, 0, detail);
	if (at == -1)
		return -1;
	base = make_directory(at, name);
	(void)close(at);
	if (base != -1) {
		run->slot.jobs = make_directory(base, "jobs");
		accounts = make_directory(base, "accounts");
		(void)close(base);
	}
	if (accounts != -1) {
		run->slot.accounts = make_directory(accounts, uid);
		(void)close(accounts);
	}
	if (run->slot.jobs != -1 && run->slot.accounts != -1)
		return 0;
	pil_detail(detail, PILOTAGE_RUNDIR ": %s", strerror(errno));
	return -1;
}

static int
take_lock(struct run *run)
{
	const struct timespec pause = { 0, 5 * 1000 * 1000 };
	long long deadline = sys_now_usec() + LOCK_USEC;
	int fd = openat(run->slot.accounts, "lock",
	    O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);

	if (fd == -1)
		return -1;
	while (flock(fd, LOCK_EX | LOCK_NB) == -1) {
		if (errno != EWOULDBLOCK || sys_now_usec() > deadline) {
			(void)close(fd);
			return -1;
		}
		(void)nanosleep(&pause, NULL);
	}
	run->slot.lock = fd;
	return 0;
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
	const char *owner, *cgroup;
};

static const char *
take(void *arg, char *section, char *key, char *value)
{
	struct found *found = arg;

	(void)section;
	if (key != NULL && strcmp(key, "owner") == 0)
		found->owner = value;
	else if (key != NULL && strcmp(key, "cgroup") == 0)
		found->cgroup = value;
	return NULL;
}

static int
read_record(int fd, struct found *found)
{
	char detail[PIL_DETAIL_SIZE];
	long n = pil_read_all(fd, found->text, sizeof(found->text) - 1);

	found->owner = found->cgroup = "";
	if (n == -1)
		return -1;
	found->text[n] = '\0';
	return pil_ini_parse(found->text, (size_t)n, take, found, detail);
}

/* Kill and remove what a run without a monitor left; its name goes last. */
static void
bury(struct run *run, const char *id, const struct found *found, int alone)
{
	struct cgroup group;
	char path[PIL_RUN_ID_SIZE + 8];

	if (cgroup_open(&group, found->cgroup) == 0) {
		(void)cgroup_kill(&group);
		cgroup_remove(&group);
	}
	if (alone)
		(void)sweep_processes(run);
	(void)sweep_files(run, id, alone);
	(void)snprintf(path, sizeof(path), "%s/record", id);
	(void)unlinkat(run->slot.jobs, path, 0);
	(void)unlinkat(run->slot.jobs, id, AT_REMOVEDIR);
	(void)unlinkat(run->slot.accounts, id, 0);
}

enum pass { PASS_LOOK, PASS_BURY };

/*
 * Go through the account's runs. LOOK: the number of living ones, -1 when one
 * is another owner's. BURY: the dead ones are removed.
 */
static int
each_run(struct run *run, enum pass pass, int alone)
{
	struct found found;
	struct dirent *entry;
	int copy, fd, living = 0, dead;
	char owner[65];
	DIR *dir;

	owner_digest(run, owner);
	if ((copy = openat(run->slot.accounts, ".", OPEN_DIRECTORY)) == -1 ||
	    (dir = fdopendir(copy)) == NULL)
		return -1;
	while (living != -1 && (entry = readdir(dir)) != NULL) {
		if (strlen(entry->d_name) != PIL_RUN_ID_SIZE - 1 ||
		    strcmp(entry->d_name, run->id) == 0)
			continue;
		fd = openat(run->slot.accounts, entry->d_name,
		    O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
		if (fd == -1)
			continue;
		dead = flock(fd, LOCK_SH | LOCK_NB) == 0;
		if (read_record(fd, &found) == -1)
			found.owner = found.cgroup = "";
		if (!dead && strcmp(found.owner, owner) != 0)
			living = -1;
		else if (!dead)
			living++;
		else if (pass == PASS_BURY)
			bury(run, entry->d_name, &found, alone);
		(void)close(fd);
	}
	(void)closedir(dir);
	return living;
}

static int
create_record(struct run *run)
{
	int dir = make_directory(run->slot.jobs, run->id);
	int fd, failed = 1;

	if (dir == -1)
		return -1;
	fd = openat(dir, "record", O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW |
	    O_CLOEXEC, 0600);
	if (fd != -1 && flock(fd, LOCK_EX | LOCK_NB) == 0) {
		run->slot.record = fd;
		failed = slot_record(run) == -1 || linkat(dir, "record",
		    run->slot.accounts, run->id, 0) == -1;
	}
	(void)close(dir);
	return failed ? -1 : 0;
}

enum pil_reason
slot_take(struct run *run, char *detail)
{
	int living;

	if (open_directories(run, detail) == -1)
		return PIL_HELPER_SYSTEM;
	if (take_lock(run) == -1) {
		pil_detail(detail, "account %s is being cleaned",
		    run->map.account);
		return PIL_ACCOUNT_IN_USE;
	}
	if ((living = each_run(run, PASS_LOOK, 0)) == -1) {
		pil_detail(detail, "another owner's run is on account %s",
		    run->map.account);
		return PIL_ACCOUNT_IN_USE;
	}
	(void)each_run(run, PASS_BURY, living == 0);
	if (create_record(run) == -1) {
		pil_detail(detail, PILOTAGE_RUNDIR "/jobs: %s",
		    strerror(errno));
		return PIL_HELPER_SYSTEM;
	}
	(void)close(run->slot.lock);
	run->slot.lock = -1;
	return PIL_OK;
}

int
slot_record(struct run *run)
{
	char text[RECORD_MAX], owner[65];
	int len;

	owner_digest(run, owner);
	len = snprintf(text, sizeof(text), "[run]\nowner = %s\n"
	    "caller_uid = %u\naccount = %s\nuid = %u\ncgroup = %s\n"
	    "start_time = %lld\n", owner, run->pilot.uid, run->map.account,
	    run->map.uid, run->cgroup.path, (long long)time(NULL));
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

	if (take_lock(run) == -1)
		return -1;
	if ((living = each_run(run, PASS_LOOK, 0)) == -1)
		return -1;
	return living == 0;
}

void
slot_release(struct run *run)
{
	char path[PIL_RUN_ID_SIZE + 8];

	if (run->slot.record != -1) {
		(void)snprintf(path, sizeof(path), "%s/record", run->id);
		(void)unlinkat(run->slot.jobs, path, 0);
		(void)unlinkat(run->slot.jobs, run->id, AT_REMOVEDIR);
		(void)unlinkat(run->slot.accounts, run->id, 0);
		(void)close(run->slot.record);
	}
	if (run->slot.lock != -1)
		(void)close(run->slot.lock);
	run->slot.record = run->slot.lock = -1;
}
