/*
 * What a full disk leaves at the end of a file of lines.
 */
#include <sys/stat.h>

#include <time.h>
#include <unistd.h>

#include "keep/lines.h"

/*
 * A disk that was full may have taken half a line. It is ended, so that ours
 * begins a new one; what another process is just writing is waited for.
 */
int
lines_mend(int file)
{
	const struct timespec pause = { 0, 2 * 1000 * 1000 };
	struct stat st;
	char last;
	int i;

	for (i = 0; i < 5; i++) {
		if (fstat(file, &st) == -1)
			return -1;
		if (st.st_size == 0 || (pread(file, &last, 1, st.st_size - 1) ==
		    1 && last == '\n'))
			return 0;
		(void)nanosleep(&pause, NULL);
	}
	return write(file, "\n", 1) == 1 ? 0 : -1;
}
