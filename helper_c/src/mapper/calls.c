/*
 * The name service loads modules that nobody here knows, and they open files
 * and sockets as they like; so this list says what mapping never needs rather
 * than what it does. A call of it fails, and mapping with it, instead of
 * killing: a module that merely tries must not take the account away.
 */
#include <sys/prctl.h>
#include <sys/syscall.h>

#include <errno.h>
#include <limits.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>

#include "sandbox/filter.h"
#include "mapper/sandbox.h"

#define LOAD(field)	BPF_STMT(BPF_LD | BPF_W | BPF_ABS, \
			    offsetof(struct seccomp_data, field))
#define RETURN(what)	BPF_STMT(BPF_RET | BPF_K, (what))

static const struct pil_answer allow = {
	{ RETURN(SECCOMP_RET_ALLOW) }, 1
};
static const struct pil_answer refuse = {
	{ RETURN(SECCOMP_RET_ERRNO | EPERM) }, 1
};
/* The C library then uses clone, whose flags can be looked at. */
static const struct pil_answer unknown = {
	{ RETURN(SECCOMP_RET_ERRNO | ENOSYS) }, 1
};
/* A module may have threads, never processes. */
static const struct pil_answer threads = { {
	LOAD(args[0]),
	BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, CLONE_THREAD, 1, 0),
	RETURN(SECCOMP_RET_ERRNO | EPERM),
	RETURN(SECCOMP_RET_ALLOW),
}, 4 };

#define IS(call, answer)	{ SYS_##call, SYS_##call, &(answer) }
#define REFUSE(call)		IS(call, refuse)

#ifdef __x86_64__
/* The x32 calls are the same ones by other numbers. */
#define X32	0x40000000u

static const struct pil_answer fatal = {
	{ RETURN(SECCOMP_RET_KILL_PROCESS) }, 1
};
#endif

static struct pil_call calls[] = {
#ifdef __x86_64__
	{ X32, UINT_MAX, &fatal },
	REFUSE(fork), REFUSE(vfork), REFUSE(chmod), REFUSE(chown),
	REFUSE(lchown), REFUSE(mknod), REFUSE(rename), REFUSE(symlink),
	REFUSE(truncate), REFUSE(iopl), REFUSE(ioperm),
	REFUSE(modify_ldt),
#endif
	/* other programs, other processes */
	REFUSE(execve), REFUSE(execveat), REFUSE(ptrace), REFUSE(kill),
	REFUSE(process_vm_readv), REFUSE(process_vm_writev),
	REFUSE(pidfd_open), REFUSE(pidfd_getfd), REFUSE(pidfd_send_signal),
	REFUSE(setpriority), REFUSE(sched_setaffinity), REFUSE(prlimit64),
	/* other ids and powers */
	REFUSE(setuid), REFUSE(setgid), REFUSE(setreuid), REFUSE(setregid),
	REFUSE(setresuid), REFUSE(setresgid), REFUSE(setgroups),
	REFUSE(setfsuid), REFUSE(setfsgid), REFUSE(capset), REFUSE(keyctl),
	REFUSE(add_key), REFUSE(request_key), REFUSE(personality),
	/* other views of the machine */
	REFUSE(mount), REFUSE(umount2), REFUSE(pivot_root), REFUSE(chroot),
	REFUSE(unshare), REFUSE(setns), REFUSE(move_mount),
	REFUSE(open_tree), REFUSE(fsopen), REFUSE(fsconfig), REFUSE(fsmount),
	REFUSE(fspick), REFUSE(mount_setattr), REFUSE(open_by_handle_at),
	/* files, but for the leases */
	REFUSE(fchmod), REFUSE(fchmodat), REFUSE(fchown), REFUSE(fchownat),
	REFUSE(mknodat), REFUSE(mkdirat), REFUSE(symlinkat),
	REFUSE(renameat), REFUSE(renameat2), REFUSE(setxattr),
	REFUSE(lsetxattr), REFUSE(fsetxattr),
	/* the kernel's larger doors */
	REFUSE(bpf), REFUSE(perf_event_open), REFUSE(userfaultfd),
	REFUSE(io_uring_setup), REFUSE(io_uring_enter),
	REFUSE(io_uring_register), REFUSE(init_module),
	REFUSE(finit_module), REFUSE(delete_module), REFUSE(kexec_load),
	REFUSE(reboot), REFUSE(swapon), REFUSE(swapoff), REFUSE(acct),
	REFUSE(settimeofday), REFUSE(clock_settime), REFUSE(clock_adjtime),
	REFUSE(sethostname), REFUSE(setdomainname), REFUSE(quotactl),
	REFUSE(syslog),
	IS(clone3, unknown), IS(clone, threads),
};

int
sandbox_calls(void)
{
	struct sock_filter filter[PIL_FILTER_MAX];
	struct sock_fprog program = {
		pil_filter(filter, calls, sizeof(calls) / sizeof(calls[0]),
		    &allow), filter
	};

	if (program.len == 0)
		return -1;
#ifdef __SANITIZE_ADDRESS__
	/* The sanitizer needs clone for its leak check. */
	return 0;
#else
	return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0);
#endif
}
