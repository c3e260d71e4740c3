/* As a payload: 0, 1, 2 are open and nothing else is (A3, A4). */
#include <fcntl.h>
#include <stdio.h>

int
main(void)
{
	int fd, wrong = 0;

	for (fd = 0; fd < 65536; fd++)
		if ((fcntl(fd, F_GETFD) != -1) != (fd < 3)) {
			printf("%d\n", fd);
			wrong = 1;
		}
	return wrong;
}
