/*
 * The logs' files without privilege. pilotage-keep, where the site has the
 * set-user-id bit, has opened them and hands them on; else the site lets the
 * caller append to them.
 */
#include <sys/stat.h>

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/text.h"
#include "keep/lines.h"
#include "privsep/handover.h"

/* Handed on, and the file that the configuration means. */
static int
handed_on(const char *path)
{
	static const int places[] = { HANDOVER_LOG_FD, HANDOVER_OLD_LOG_FD };
	struct stat there, st;
	size_t i;
	int flags;

	if (stat(path, &there) == -1)
		return -1;
	for (i = 0; i < sizeof(places) / sizeof(places[0]); i++)
		if (fstat(places[i], &st) == 0 && S_ISREG(st.st_mode) &&
		    st.st_dev == there.st_dev && st.st_ino == there.st_ino &&
		    (flags = fcntl(places[i], F_GETFL)) != -1 &&
		    (flags & O_APPEND) != 0 &&
		    fcntl(places[i], F_SETFD, FD_CLOEXEC) == 0)
			return places[i];
	return -1;
}

int
lines_open(const char *path, char *detail)
{
	const int how = O_APPEND | O_NOFOLLOW | O_CLOEXEC | O_NOCTTY |
	    O_NONBLOCK;
	int fd = handed_on(path), whole = 1;
	struct stat st;

	if (fd != -1)
		return fd;
	/* Who may not read it cannot see how its last line ends. */
	if ((fd = open(path, O_RDWR | how)) == -1 && errno == EACCES) {
		whole = 0;
		fd = open(path, O_WRONLY | how);
	}
	if (fd == -1) {
		pil_detail(detail, "%s: %s", path, strerror(errno));
		return -1;
	}
	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_nlink == 1 &&
	    (!whole || lines_mend(fd) == 0))
		return fd;
	pil_detail(detail, "%s: not a file with one name that takes lines",
	    path);
	(void)close(fd);
	return -1;
}
