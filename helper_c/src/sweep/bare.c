/*
 * The way into the kernel and out of it, and what a compiler may call by itself.
 */
#include <sys/syscall.h>

#include <stddef.h>
#include <unistd.h>

#include "sweep/kernel.h"

#ifndef PILOTAGE_BARE
#include <errno.h>

long
kernel(long number, long a, long b, long c, long d, long e)
{
	long answer = syscall(number, a, b, c, d, e);

	return answer == -1 ? -errno : answer;
}

#else

int	main(int, char **);
void	bare_start(long *) __attribute__((noreturn, used));
void	*memset(void *, int, size_t);
void	*memcpy(void *, const void *, size_t);

__asm__(".text\n"
    ".globl _start\n"
    ".type _start, @function\n"
    "_start:\n"
    "	xorl %ebp, %ebp\n"
    "	movq %rsp, %rdi\n"
    "	andq $-16, %rsp\n"
    "	call bare_start\n"
    "	hlt\n");

long
kernel(long number, long a, long b, long c, long d, long e)
{
	register long fourth __asm__("r10") = d;
	register long fifth __asm__("r8") = e;

	__asm__ volatile("syscall" : "+a"(number) : "D"(a), "S"(b), "d"(c),
	    "r"(fourth), "r"(fifth) : "rcx", "r11", "memory");
	return number;
}

/* The kernel leaves the number of arguments and the arguments on the stack. */
void
bare_start(long *stack)
{
	int answer = main((int)stack[0], (char **)(stack + 1));

	for (;;)
		(void)kernel(SYS_exit_group, answer, 0, 0, 0, 0);
}

void *
memset(void *to, int byte, size_t n)
{
	unsigned char *at = to;

	while (n-- > 0)
		*at++ = (unsigned char)byte;
	return to;
}

void *
memcpy(void *to, const void *from, size_t n)
{
	unsigned char *at = to;
	const unsigned char *next = from;

	while (n-- > 0)
		*at++ = *next++;
	return to;
}
#endif
