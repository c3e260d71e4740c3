/*
 * In the place of pilotage-verify (C9, C10): dies in every way, or lies. What
 * it does stands in the proxy file, after the last certificate:
 *	ATTACK cpu | memory | seccomp | segv | abort | hang | fork | stop |
 *	       flood | late
 *	ATTACK lie OFFSET BYTE		one byte of a good record is this one
 *	ATTACK flip OFFSET BITS		one byte of a good record is another
 *	ATTACK cut LENGTH		only so much of it
 *	ATTACK refuse REASON		a refusal, or with 0 what is left of one
 * The good record is read from the file "record" beside this program.
 */
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <fcntl.h>

#include "base/sha256.c"
#include "pilotage/record.h"

static void
die_of_seccomp(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
		    offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getppid, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { 4, code };

	(void)prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
	(void)getppid();
}

static void
die_of_memory(void)
{
	char *p;

	while ((p = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE |
	    MAP_ANONYMOUS, -1, 0)) != MAP_FAILED)
		memset(p, 1, 1 << 20);
	abort();
}

static size_t
take(char *buf, size_t size)
{
	size_t len = 0;
	ssize_t n;

	while ((n = read(0, buf + len, size - len)) > 0)
		len += (size_t)n;
	return len;
}

int
main(int argc, char **argv)
{
	static char buf[400000], path[4096];
	static struct pil_record record;
	const struct pil_request *request = (const void *)buf;
	size_t len = take(buf, sizeof(buf) - 1), size = sizeof(record);
	const char *what = strstr(buf + sizeof(*request), "ATTACK ");
	unsigned long offset = 0, byte = 0;
	ssize_t n;
	int fd;

	(void)argc;
	(void)argv;
	if (len < sizeof(*request))
		return 5;
	if (what == NULL)
		what = "ATTACK none";
	what += 7;
	if (strncmp(what, "cpu", 3) == 0)
		for (;;)
			;
	if (strncmp(what, "memory", 6) == 0)
		die_of_memory();
	if (strncmp(what, "seccomp", 7) == 0)
		die_of_seccomp();
	if (strncmp(what, "segv", 4) == 0)
		*(volatile int *)NULL = 1;
	if (strncmp(what, "abort", 5) == 0)
		abort();
	if (strncmp(what, "hang", 4) == 0)
		for (;;)
			pause();
	if (strncmp(what, "stop", 4) == 0)
		(void)raise(SIGSTOP);
	/* Processes of its own would outlive it. */
	if (strncmp(what, "fork", 4) == 0 && fork() != -1)
		for (;;)
			pause();
	n = readlink("/proc/self/exe", path, sizeof(path) - 16);
	path[n > 0 ? n : 0] = '\0';
	(void)strcpy(strrchr(path, '/') + 1, "record");
	if ((fd = open(path, O_RDONLY)) == -1 ||
	    read(fd, &record, sizeof(record)) != sizeof(record))
		return 3;
	memcpy(record.nonce, request->nonce, sizeof(record.nonce));
	pil_sha256(buf + sizeof(*request), request->pem_size, record.digest);
	if (strncmp(what, "fork", 4) == 0)
		return 4;
	if (sscanf(what, "lie %lu %lu", &offset, &byte) == 2)
		((unsigned char *)&record)[offset] = (unsigned char)byte;
	if (sscanf(what, "flip %lu %lu", &offset, &byte) == 2)
		((unsigned char *)&record)[offset] ^= (unsigned char)byte;
	(void)sscanf(what, "cut %zu", &size);
	if (sscanf(what, "refuse %lu", &byte) == 1) {
		memset(&record.who, 0, sizeof(record.who));
		record.who.reason = (int)byte;
	}
	(void)!write(1, &record, size);
	if (strncmp(what, "flood", 5) == 0)
		while (write(1, &record, sizeof(record)) > 0)
			;
	if (strncmp(what, "late", 4) == 0) {
		sleep(1);
		(void)!write(1, "x", 1);
	}
	return 0;
}
