/*
 * The run directory `<home>/pilotage-<run id>/`.
 *
 * Made by the account itself, so that no path can lead root anywhere
 * (CVE-2023-41914), and below a directory that only the account can change.
 */
#include <sys/stat.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/text.h"
#include "keep/rundir.h"
#include "privsep/sys.h"

#define OPEN_DIRECTORY	(O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)

void
rundir_path(const struct run *run, const char *name, char *out, size_t size)
{
	(void)snprintf(out, size, "%s/pilotage-%s%s%s", run->map.home, run->id,
	    *name != '\0' ? "/" : "", name);
}

static int
make_directory(int at, const char *name)
{
	if (mkdirat(at, name, 0700) == -1)
		return -1;
	return openat(at, name, OPEN_DIRECTORY);
}

static int
open_home(const struct run *run, char *detail)
{
	int fd = open(run->map.home, OPEN_DIRECTORY);
	struct stat st;

	if (fd == -1 || fstat(fd, &st) == -1) {
		pil_detail(detail, "%s: %s", run->map.home, strerror(errno));
		return -1;
	}
	if (st.st_uid == run->map.uid &&
	    (st.st_mode & (S_IWGRP | S_IWOTH)) == 0)
		return fd;
	pil_detail(detail, "%s: must be the account's and not writable by "
	    "group or others", run->map.home);
	return -1;
}

/*
 * Not synced to the disk, which may be busy for long: a machine that crashes
 * takes the payload with it. A file system that writes late says at close()
 * what it could not write.
 */
static int
write_proxy(int dir, const char *name, const struct proxy *proxy)
{
	int fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW |
	    O_CLOEXEC, 0600);

	if (fd == -1 || sys_write_all(fd, proxy->pem, proxy->len) == -1)
		return -1;
	return close(fd);
}

int
rundir_renew(const struct run *run, const struct proxy *proxy)
{
	char path[PATH_MAX];
	int dir;

	rundir_path(run, "", path, sizeof(path));
	if ((dir = open(path, OPEN_DIRECTORY)) == -1)
		return -1;
	/* One that a renewal which was killed has left. */
	(void)unlinkat(dir, "proxy.new", 0);
	return write_proxy(dir, "proxy.new", proxy) == -1 ? -1 :
	    renameat(dir, "proxy.new", dir, "proxy");
}

enum pil_reason
rundir_enter(const struct run *run, char *detail)
{
	char name[PIL_RUN_ID_SIZE + 16];
	int home, dir, tmp, work;

	if ((home = open_home(run, detail)) == -1)
		return PIL_HOME_UNUSABLE;
	(void)snprintf(name, sizeof(name), "pilotage-%s", run->id);
	if ((dir = make_directory(home, name)) == -1 ||
	    (tmp = make_directory(dir, "tmp")) == -1 || close(tmp) == -1 ||
	    (work = make_directory(dir, "work")) == -1 ||
	    fchdir(work) == -1) {
		pil_detail(detail, "%s/%s: %s", run->map.home, name,
		    strerror(errno));
		return PIL_HOME_UNUSABLE;
	}
	if (!run->options.no_target && write_proxy(dir, "proxy",
	    run->source.len != 0 ? &run->source : &run->proxy) == -1) {
		pil_detail(detail, "%s/%s/proxy: %s", run->map.home, name,
		    strerror(errno));
		return PIL_TARGET_PROXY_UNUSABLE;
	}
	return PIL_OK;
}
