/*
 * The caller's proxy file. It is opened once, with the caller's rights, and
 * judged by its descriptor; all that follows works on the bytes read here.
 */
#include <sys/stat.h>

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/sha256.h"
#include "base/text.h"
#include "base/trusted.h"
#include "keep/become.h"
#include "keep/proxyfile.h"

static const char *
judge(const struct stat *st, uid_t owner)
{
	if (!S_ISREG(st->st_mode))
		return "not a regular file";
	if (st->st_uid != owner)
		return "not the caller's own file";
	if ((st->st_mode & 077) != 0)
		return "group or others have rights on it";
	if (st->st_nlink != 1)
		return "it does not have exactly one link";
	if (st->st_size < 1 || st->st_size > PIL_INPUT_MAX)
		return "empty or larger than 256 KiB";
	return NULL;
}

static const char *
read_file(const char *path, uid_t owner, struct proxy *proxy)
{
	const char *wrong;
	struct stat st;
	long n;
	int fd;

	/* One answer, whether the file is missing or not ours to see. */
	fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY |
	    O_CLOEXEC);
	if (fd == -1)
		return "the caller cannot open it, or it is a symbolic link";
	if (fstat(fd, &st) == -1)
		wrong = strerror(errno);
	else if ((wrong = judge(&st, owner)) == NULL) {
		/* One byte more shows a file that grows while it is read. */
		n = pil_read_all(fd, proxy->pem, PIL_INPUT_MAX + 1);
		if (n <= 0)
			wrong = n == 0 ? "empty" : strerror(errno);
		else
			proxy->len = (size_t)n;
	}
	(void)close(fd);
	return wrong;
}

void
proxyfile_forget(const struct run *run)
{
	if (run->proxy.len != 0)
		explicit_bzero(run->proxy.pem, run->proxy.len);
	if (run->source.len != 0)
		explicit_bzero(run->source.pem, run->source.len);
}

enum pil_reason
proxyfile_read(const struct run *run, const char *path, struct proxy *proxy,
    char *detail)
{
	const char *wrong;

	if ((proxy->pem = malloc(PIL_INPUT_MAX + 1)) == NULL ||
	    become_reader(run) == -1) {
		pil_detail(detail, "%s", strerror(errno));
		return PIL_HELPER_SYSTEM;
	}
	wrong = read_file(path, run->pilot.uid, proxy);
	if (become_keeper(run) == -1) {
		pil_detail(detail, "%s", strerror(errno));
		return PIL_HELPER_SYSTEM;
	}
	if (wrong != NULL) {
		pil_detail(detail, "%s: %s", path, wrong);
		return PIL_PROXY_FILE_UNUSABLE;
	}
	pil_sha256(proxy->pem, proxy->len, proxy->digest);
	return PIL_OK;
}
