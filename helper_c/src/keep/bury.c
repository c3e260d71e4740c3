/*
 * What the runs on an account are by their records, and the removal of those
 * whose monitor died (slot.c says where the records are).
 */
#include <sys/file.h>
#include <sys/stat.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/ini.h"
#include "base/text.h"
#include "base/trusted.h"
#include "keep/bury.h"
#include "keep/cgroup.h"
#include "keep/slot.h"
#include "keep/sweep.h"
#include "privsep/order.h"

#define OPEN_DIRECTORY	(O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)

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
void
bury_record(const struct run *run, const char *id)
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
		bury_record(run, id);
	return left;
}

enum pass { PASS_LOOK, PASS_BURY };

/*
 * Go through the account's runs. LOOK: the number of living ones, or
 * BURY_ANOTHERS, or BURY_UNSEEN. BURY: the dead ones are removed, or
 * BURY_REMAINS.
 */
static int
each_run(struct run *run, enum pass pass, int alone)
{
	static struct found found;
	struct dirent *entry;
	int copy, fd, living = 0, dead;
	char owner[65];
	DIR *dir;

	slot_owner(run, owner);
	if ((copy = openat(run->slot.account, ".", OPEN_DIRECTORY)) == -1)
		return BURY_UNSEEN;
	if ((dir = fdopendir(copy)) == NULL) {
		(void)close(copy);
		return BURY_UNSEEN;
	}
	while (living >= 0) {
		errno = 0;
		if ((entry = readdir(dir)) == NULL) {
			if (errno != 0)
				living = BURY_UNSEEN;
			break;
		}
		if (strlen(entry->d_name) != PIL_RUN_ID_SIZE - 1 ||
		    strcmp(entry->d_name, run->id) == 0)
			continue;
		fd = open_record(run->slot.account, entry->d_name);
		if (fd == -1) {
			if (errno != ENOENT)
				living = BURY_UNSEEN;
			continue;
		}
		dead = flock(fd, LOCK_SH | LOCK_NB) == 0;
		if (read_record(fd, &found) == -1)
			found.owner = "";
		if (!dead && strcmp(found.owner, owner) != 0)
			living = BURY_ANOTHERS;
		else if (!dead)
			living++;
		else if (pass == PASS_BURY && bury(run, entry->d_name, &found,
		    alone) != 0 && strcmp(found.owner, owner) != 0)
			living = BURY_REMAINS;
		(void)close(fd);
	}
	(void)closedir(dir);
	return living;
}

int
bury_look(struct run *run)
{
	return each_run(run, PASS_LOOK, 0);
}

int
bury_dead(struct run *run, int alone)
{
	return each_run(run, PASS_BURY, alone);
}

enum left
bury_run(struct run *run, const char *id)
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
	if (slot_enter(run) == 0 && slot_lock(run) == 0) {
		alone = bury_look(run) == 0;
		left = bury(run, id, &found, alone);
		(void)close(run->slot.lock);
		run->slot.lock = -1;
	}
	(void)close(run->slot.account);
	(void)close(fd);
	return left ? LEFT_SOME : LEFT_REMOVED;
}
