/*
 * The system calls that verifying needs, by a hand-written filter. Anything
 * else, and any call of another architecture, kills the process.
 */
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include <fcntl.h>
#include <linux/seccomp.h>
#include <stddef.h>

#include "sandbox/filter.h"
#include "verifier/sandbox.h"

/* Both architectures are little-endian: the low word comes first. */
#define LOAD(field)	BPF_STMT(BPF_LD | BPF_W | BPF_ABS, \
			    offsetof(struct seccomp_data, field))
#define RETURN(what)	BPF_STMT(BPF_RET | BPF_K, (what))
#define EQUAL(x, t, f)	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (x), (t), (f))
#define ANY(bits, t, f)	BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, (bits), (t), (f))

/* No way to open a file for writing: O_TMPFILE's own bit is in O_TMPFILE. */
#define WRITING	(O_ACCMODE | O_CREAT | O_TRUNC | O_APPEND | \
		    (O_TMPFILE & ~O_DIRECTORY))

static const struct pil_answer allow = {
	{ RETURN(SECCOMP_RET_ALLOW) }, 1
};
static const struct pil_answer fatal = {
	{ RETURN(SECCOMP_RET_KILL_PROCESS) }, 1
};
/* Memory, but never memory to execute. */
static const struct pil_answer memory = { {
	LOAD(args[2]),
	ANY(PROT_EXEC, 0, 1),
	RETURN(SECCOMP_RET_KILL_PROCESS),
	RETURN(SECCOMP_RET_ALLOW),
}, 4 };
/* Below an open directory, to read. */
static const struct pil_answer reading = { {
	LOAD(args[0]),
	EQUAL((unsigned int)AT_FDCWD, 0, 1),
	RETURN(SECCOMP_RET_KILL_PROCESS),
	LOAD(args[2]),
	ANY(WRITING, 0, 1),
	RETURN(SECCOMP_RET_KILL_PROCESS),
	RETURN(SECCOMP_RET_ALLOW),
}, 7 };

#define IS(call, answer)	{ SYS_##call, SYS_##call, &(answer) }

static struct pil_call calls[] = {
	IS(read, allow), IS(write, allow), IS(close, allow),
	IS(fstat, allow), IS(newfstatat, allow), IS(openat, reading),
	IS(mmap, memory), IS(mprotect, memory), IS(munmap, allow),
	IS(mremap, allow), IS(madvise, allow), IS(brk, allow),
	IS(futex, allow), IS(getrandom, allow), IS(clock_gettime, allow),
	IS(getpid, allow), IS(gettid, allow), IS(rt_sigreturn, allow),
	IS(restart_syscall, allow), IS(exit, allow), IS(exit_group, allow),
};

int
sandbox_calls(void)
{
	struct sock_filter filter[PIL_FILTER_MAX];
	struct sock_fprog program = {
		pil_filter(filter, calls, sizeof(calls) / sizeof(calls[0]),
		    &fatal), filter
	};

	if (program.len == 0)
		return -1;
#ifdef __SANITIZE_ADDRESS__
	/* The sanitizer's own calls are not in the list; nobody installs it. */
	return 0;
#else
	return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0);
#endif
}
