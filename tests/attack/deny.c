/*
 * Start a program as an account under a filter that makes one system call
 * fail. The filter is installed by root and without no_new_privs, so that a
 * set-user-id program still gets its privilege; it stands for an old kernel or
 * a full machine.
 *	deny UID GID CALL ERRNO ARGUMENT MASK PROGRAM ...
 * fails CALL when ARGUMENT (0 to 5) has a bit of MASK, or always when MASK is 0.
 */
#include <sys/prctl.h>
#include <sys/syscall.h>

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <grp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int
main(int argc, char **argv)
{
	unsigned call, error, mask, offset;
	uid_t uid;
	gid_t gid;

	if (argc < 8)
		return 99;
	uid = (uid_t)atoi(argv[1]);
	gid = (gid_t)atoi(argv[2]);
	call = (unsigned)atoi(argv[3]);
	error = (unsigned)atoi(argv[4]);
	offset = (unsigned)offsetof(struct seccomp_data, args) +
	    8u * (unsigned)atoi(argv[5]);
	mask = (unsigned)strtoul(argv[6], NULL, 0);

	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
		    offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call, 0, 4),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offset),
		BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, mask, 1, 0),
		BPF_JUMP(BPF_JMP | BPF_JA, mask == 0 ? 0 : 1, 0, 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { sizeof(code) / sizeof(code[0]), code };

	if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == -1 ||
	    setgroups(1, &gid) == -1 || setresgid(gid, gid, gid) == -1 ||
	    setresuid(uid, uid, uid) == -1) {
		perror("deny");
		return 98;
	}
	execv(argv[7], argv + 7);
	perror("execv");
	return 97;
}
