/*
 * What the programs that are asked one question share (keep/ask.c asks).
 */
#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "base/answer.h"

void
pil_die(const char *what)
{
	(void)fprintf(stderr, "%s: %s\n", program_invocation_short_name, what);
	_exit(1);
}

int
pil_read_exactly(int fd, void *buffer, size_t size)
{
	unsigned char *at = buffer;
	ssize_t n;

	while (size > 0) {
		n = read(fd, at, size);
		if (n == -1 && errno == EINTR)
			continue;
		if (n <= 0)
			return 0;
		at += n;
		size -= (size_t)n;
	}
	return 1;
}
