/* For the programs that are asked one question on descriptor 0. */
#ifndef PILOTAGE_BASE_ANSWER_H
#define PILOTAGE_BASE_ANSWER_H

#include <stddef.h>

/* End with 1, which is no answer; the reason goes to standard error. */
void	pil_die(const char *what) __attribute__((noreturn));
/* 1 when all of it came; 0: it ended first, or could not be read. */
int	pil_read_exactly(int fd, void *buffer, size_t size);

#endif
