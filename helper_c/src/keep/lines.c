/*
 * A file that only root could have written, and only whole lines.
 */
#include <sys/resource.h>
#include <sys/stat.h>

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/text.h"
#include "base/trusted.h"
#include "keep/lines.h"

#define ROOM	(16ul * 1024 * 1024)

/*
 * A caller's limit on the length of files holds for root too where root may not
 * lift it. A file that is close to it would take the beginning of a run and not
 * its end, which may be days and many lines of others later.
 */
static int
has_room(int file)
{
	struct rlimit limit;
	struct stat st;

	if (fstat(file, &st) == -1 || getrlimit(RLIMIT_FSIZE, &limit) == -1)
		return 0;
	errno = EFBIG;
	return limit.rlim_cur == RLIM_INFINITY ||
	    limit.rlim_cur >= (rlim_t)st.st_size + ROOM;
}

int
lines_open(const char *path, char *detail)
{
	int file = pil_open_trusted(path, O_RDWR | O_APPEND | O_CREAT, 0,
	    detail);

	if (file == -1 || (has_room(file) && lines_mend(file) == 0))
		return file;
	pil_detail(detail, "%s: %s", path, errno == EFBIG ? "too close to the "
	    "caller's RLIMIT_FSIZE" : strerror(errno));
	(void)close(file);
	return -1;
}
