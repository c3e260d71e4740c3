/*
 * As a payload with a terminal on descriptor 0: give it input that somebody
 * seems to have typed, or make it our own (A15). Prints what worked.
 */
#include <sys/ioctl.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

int
main(void)
{
	static const char typed[] = "echo injected\n";
	char paste[] = { 2, 0 }, select[16] = { 2, 1, 0, 1, 0, 9, 0, 9, 0 };
	int fd, i, waiting = 0;

	if (!isatty(0)) {
		printf("no terminal to try\n");
		return 99;
	}
	for (i = 0; typed[i] != '\0'; i++)
		if (ioctl(0, TIOCSTI, &typed[i]) == 0)
			printf("TIOCSTI\n");
	if (ioctl(0, TIOCLINUX, select) == 0 || ioctl(0, TIOCLINUX, paste) == 0)
		printf("TIOCLINUX\n");
	if (ioctl(0, TIOCSCTTY, 0) == 0 || ioctl(0, TIOCSCTTY, 1) == 0)
		printf("TIOCSCTTY\n");
	if (tcgetpgrp(0) != -1)
		printf("tcgetpgrp\n");
	if (tcgetsid(0) != -1)
		printf("tcgetsid\n");
	if ((fd = open("/dev/tty", O_RDWR)) != -1 || errno != ENXIO)
		printf("/dev/tty: %s\n", fd != -1 ? "open" : strerror(errno));
	if (ioctl(0, FIONREAD, &waiting) == -1 || waiting != 0)
		printf("%d bytes wait as input\n", waiting);
	printf("tried\n");
	return 0;
}
