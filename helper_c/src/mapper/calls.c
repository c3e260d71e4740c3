/*
 * The name service loads modules that nobody here knows, and they open files
 * and sockets as they like; so this list says what mapping never needs rather
 * than what it does. A call of it fails, and mapping with it, instead of
 * killing: a module that merely tries must not take the account away.
 */
#include <sys/prctl.h>
#include <sys/syscall.h>

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>

#include "mapper/sandbox.h"

#if defined(__x86_64__)
#define ARCH	AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define ARCH	AUDIT_ARCH_AARCH64
#else
#error "no system call filter for this architecture"
#endif

#define LOAD(field)	BPF_STMT(BPF_LD | BPF_W | BPF_ABS, \
			    offsetof(struct seccomp_data, field))
#define RETURN(what)	BPF_STMT(BPF_RET | BPF_K, (what))
#define EQUAL(x, t, f)	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (x), (t), (f))

#define REFUSE(call) \
	EQUAL(SYS_##call, 0, 1), \
	RETURN(SECCOMP_RET_ERRNO | EPERM)

static struct sock_filter filter[] = {
	LOAD(arch),
	EQUAL(ARCH, 1, 0),
	RETURN(SECCOMP_RET_KILL_PROCESS),
	LOAD(nr),
#ifdef __x86_64__
	/* The x32 calls are the same ones by other numbers. */
	BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, 0x40000000, 0, 1),
	RETURN(SECCOMP_RET_KILL_PROCESS),
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
	/* A module may have threads, never processes. */
	EQUAL(SYS_clone3, 0, 1),
	RETURN(SECCOMP_RET_ERRNO | ENOSYS),
	EQUAL(SYS_clone, 0, 4),
	LOAD(args[0]),
	BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, CLONE_THREAD, 1, 0),
	RETURN(SECCOMP_RET_ERRNO | EPERM),
	RETURN(SECCOMP_RET_ALLOW),
	RETURN(SECCOMP_RET_ALLOW),
};

int
sandbox_calls(void)
{
#ifdef __SANITIZE_ADDRESS__
	(void)filter;	/* the sanitizer needs clone for its leak check */
	return 0;
#else
	struct sock_fprog program = {
		sizeof(filter) / sizeof(filter[0]), filter
	};

	return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0);
#endif
}
