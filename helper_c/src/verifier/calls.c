/*
 * The system calls that verifying needs, by a hand-written filter. Anything
 * else, and any call of another architecture, kills the process.
 */
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>

#include "verifier/sandbox.h"

#if defined(__x86_64__)
#define ARCH	AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define ARCH	AUDIT_ARCH_AARCH64
#else
#error "no system call filter for this architecture"
#endif

/* Both architectures are little-endian: the low word comes first. */
#define LOAD(field)	BPF_STMT(BPF_LD | BPF_W | BPF_ABS, \
			    offsetof(struct seccomp_data, field))
#define RETURN(what)	BPF_STMT(BPF_RET | BPF_K, (what))
#define EQUAL(x, t, f)	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (x), (t), (f))
#define ANY(bits, t, f)	BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, (bits), (t), (f))

#define ALLOW(call) \
	EQUAL(SYS_##call, 0, 1), \
	RETURN(SECCOMP_RET_ALLOW)

/* Memory, but never memory to execute. */
#define ALLOW_MEMORY(call) \
	EQUAL(SYS_##call, 0, 4), \
	LOAD(args[2]), \
	ANY(PROT_EXEC, 0, 1), \
	RETURN(SECCOMP_RET_KILL_PROCESS), \
	RETURN(SECCOMP_RET_ALLOW)

/* No way to open a file for writing: O_TMPFILE's own bit is in O_TMPFILE. */
#define WRITING	(O_ACCMODE | O_CREAT | O_TRUNC | O_APPEND | \
		    (O_TMPFILE & ~O_DIRECTORY))

static struct sock_filter filter[] = {
	LOAD(arch),
	EQUAL(ARCH, 1, 0),
	RETURN(SECCOMP_RET_KILL_PROCESS),
	LOAD(nr),
	ALLOW(read),
	ALLOW(write),
	ALLOW(close),
	ALLOW(fstat),
	ALLOW(newfstatat),
	/* Below an open directory, to read. */
	EQUAL(SYS_openat, 0, 7),
	LOAD(args[0]),
	EQUAL((unsigned int)AT_FDCWD, 0, 1),
	RETURN(SECCOMP_RET_KILL_PROCESS),
	LOAD(args[2]),
	ANY(WRITING, 0, 1),
	RETURN(SECCOMP_RET_KILL_PROCESS),
	RETURN(SECCOMP_RET_ALLOW),
	ALLOW_MEMORY(mmap),
	ALLOW_MEMORY(mprotect),
	ALLOW(munmap),
	ALLOW(mremap),
	ALLOW(madvise),
	ALLOW(brk),
	ALLOW(futex),
	ALLOW(getrandom),
	ALLOW(clock_gettime),
	ALLOW(getpid),
	ALLOW(gettid),
	ALLOW(rt_sigreturn),
	ALLOW(restart_syscall),
	ALLOW(exit),
	ALLOW(exit_group),
	RETURN(SECCOMP_RET_KILL_PROCESS),
};

int
sandbox_calls(void)
{
	struct sock_fprog program = {
		sizeof(filter) / sizeof(filter[0]), filter
	};

#ifdef __SANITIZE_ADDRESS__
	/* The sanitizer's own calls are not in the list; nobody installs it. */
	program.len = 0;
	return program.len;
#else
	return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0);
#endif
}
