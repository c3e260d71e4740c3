/* An input of a fuzz target as a file. */
#include <sys/mman.h>

#include <unistd.h>

#include "fuzz.h"

const char *
fuzz_file(const uint8_t *data, size_t len)
{
	static char path[32];
	static int fd = -1;

	if (fd == -1)
		fd = memfd_create("input", 0);
	MUST(fd != -1 && ftruncate(fd, 0) == 0);
	MUST(pwrite(fd, data, len, 0) == (ssize_t)len);
	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return path;
}
