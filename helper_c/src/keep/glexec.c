/*
 * Verb glexec: a run by gLExec's contract.
 *
 * It differs from a run of ours in this: the proxy goes where the caller says,
 * the caller's GLEXEC_ variables and umask pass, no run directory is made, the
 * account's files in shared directories stay for the caller's next step, and
 * without a command only the proxy is written. Every file is touched with the
 * account's rights alone, so that no path gives the caller more than a payload
 * of this account could do itself (CVE-2023-41914).
 */
#include <sys/stat.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/text.h"
#include "base/words.h"
#include "keep/glexec.h"
#include "keep/tell.h"
#include "privsep/sys.h"

#define OPEN_FOLDER	(O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
#define PREFIX		"GLEXEC_"
#define NAME_CHARS	"ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_"

int
glexec_allowed(const struct caller *caller)
{
	return pil_says_yes(caller->glexec);
}

/*
 * gLExec looked at the file itself before it asked anybody, so these are the
 * caller's mistakes; callers try 202 and 203 again, and never 201.
 */
int
glexec_code(enum pil_reason reason)
{
	switch (reason) {
	case PIL_PROXY_MALFORMED:
	case PIL_PROXY_TOO_LARGE:
	case PIL_PROXY_EMPTY:
	case PIL_PROXY_EXPIRED:
	case PIL_CERTIFICATE_EXPIRED:
	case PIL_NOT_A_PROXY:
	case PIL_KEY_MISSING:
	case PIL_KEY_MISMATCH:
		return 201;
	case PIL_LIFETIME_TOO_LONG:
		return 202;
	default:
		return tell_code(reason);
	}
}

void
glexec_target(const struct run *run, char *out, size_t size)
{
	if (run->options.target != NULL)
		(void)snprintf(out, size, "%s", run->options.target);
	else
		(void)snprintf(out, size, "/tmp/x509up_u%u.glexec.%d",
		    run->map.uid, run->pid);
}

/*
 * Walk to the folder of a path, no step of which may be a symbolic link or
 * lead upwards. The last component is copied to name.
 */
static int
open_folder(const char *path, char name[NAME_MAX + 1])
{
	int fd = open("/", OPEN_FOLDER), next, error;
	size_t len;

	while (fd != -1) {
		path += strspn(path, "/");
		len = strcspn(path, "/");
		(void)snprintf(name, NAME_MAX + 1, "%.*s", (int)len, path);
		path += len;
		if (len == 0 || len > NAME_MAX || strcmp(name, ".") == 0 ||
		    strcmp(name, "..") == 0) {
			(void)close(fd);
			errno = EINVAL;
			return -1;
		}
		if (*path == '\0')
			return fd;
		next = openat(fd, name, OPEN_FOLDER);
		error = errno;
		(void)close(fd);
		errno = error;
		fd = next;
	}
	return -1;
}

/* NULL, or why nothing may be written under this name. */
static const char *
judge(const struct run *run, int folder, const char *name)
{
	struct stat st;

	if (fstat(folder, &st) == -1)
		return strerror(errno);
	if (st.st_uid != run->map.uid && (st.st_mode & S_ISVTX) == 0 &&
	    (st.st_mode & (S_IWGRP | S_IWOTH)) != 0)
		return "others can change its folder, which is not the "
		    "account's";
	if (fstatat(folder, name, &st, AT_SYMLINK_NOFOLLOW) == -1)
		return errno == ENOENT ? NULL : strerror(errno);
	if (!S_ISREG(st.st_mode) || st.st_uid != run->map.uid)
		return "something else than a file of the account is there";
	return NULL;
}

/*
 * Whatever comes between look and rename, the name ends as our file or the
 * rename fails: in a sticky folder nobody's file but the account's goes.
 */
static const char *
replace(const struct run *run, int folder, const char *name)
{
	const struct proxy *proxy =
	    run->source.len != 0 ? &run->source : &run->proxy;
	char temporary[PIL_RUN_ID_SIZE + 16];
	int error, fd;

	(void)snprintf(temporary, sizeof(temporary), ".pilotage-%s", run->id);
	fd = openat(folder, temporary, O_WRONLY | O_CREAT | O_EXCL |
	    O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd == -1)
		return strerror(errno);
	if (sys_write_all(fd, proxy->pem, proxy->len) == 0 &&
	    close(fd) == 0 && renameat(folder, temporary, folder, name) == 0)
		return NULL;
	error = errno;
	(void)unlinkat(folder, temporary, 0);
	return strerror(error);
}

enum pil_reason
glexec_enter(const struct run *run, char *detail)
{
	char target[PATH_MAX], name[NAME_MAX + 1];
	const char *wrong = NULL;
	int folder;

	if (chdir(run->map.home) == -1 && chdir("/") == -1) {
		pil_detail(detail, "/: %s", strerror(errno));
		return PIL_HELPER_SYSTEM;
	}
	if (!run->options.no_target) {
		glexec_target(run, target, sizeof(target));
		if ((folder = open_folder(target, name)) == -1)
			wrong = errno == EINVAL ? "not a plain path" :
			    errno == ENOTDIR || errno == ELOOP ?
			    "a step is a symbolic link or no folder" :
			    strerror(errno);
		else if ((wrong = judge(run, folder, name)) == NULL)
			wrong = replace(run, folder, name);
		if (folder != -1)
			(void)close(folder);
	}
	(void)umask(run->mask);
	if (wrong == NULL)
		return PIL_OK;
	pil_detail(detail, "%s: %s", target, wrong);
	return PIL_TARGET_PROXY_UNUSABLE;
}

void
glexec_leave(const struct run *run)
{
	char target[PATH_MAX];

	if (!run->options.glexec || run->options.command == NULL ||
	    run->options.target != NULL || run->options.no_target)
		return;
	glexec_target(run, target, sizeof(target));
	(void)unlinkat(AT_FDCWD, target, 0);
}

/* The length of a passing variable's name; 0 when it is not one. */
static size_t
name_length(const char *variable)
{
	size_t len = strspn(variable, NAME_CHARS);

	return strncmp(variable, PREFIX, strlen(PREFIX)) == 0 &&
	    variable[len] == '=' ? len : 0;
}

int
glexec_environment(const struct run *run, char **list)
{
	size_t i, len, n = 0;
	char **from;

	for (from = run->environment; *from != NULL; from++) {
		if ((len = name_length(*from)) == 0)
			continue;
		for (i = 0; i < n; i++)
			if (strncmp(list[i], *from, len + 1) == 0)
				break;
		if (i < n)
			continue;
		if (n == GLEXEC_VARIABLES_MAX)
			return -1;
		list[n++] = *from;
	}
	list[n] = NULL;
	return 0;
}
