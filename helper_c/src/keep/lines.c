/*
 * A file that only root could have written, and only whole lines.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/text.h"
#include "base/trusted.h"
#include "keep/lines.h"

int
lines_open(const char *path, char *detail)
{
	int file = pil_open_trusted(path, O_RDWR | O_APPEND | O_CREAT, 0,
	    detail);

	if (file == -1 || lines_mend(file) == 0)
		return file;
	pil_detail(detail, "%s: %s", path, strerror(errno));
	(void)close(file);
	return -1;
}
