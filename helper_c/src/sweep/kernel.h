/*
 * The kernel, for a program without a C library.
 *
 * pilotage-sweep is executed at the end of each run, and what a C library does
 * before main() takes several times as long as all the deleting. Where the way
 * into the kernel is written down (x86-64) it is therefore linked to
 * nothing; elsewhere, and for the sanitizers, to libc (CMakeLists.txt).
 *
 * Each function answers with what the kernel answers: a negative number is an
 * error of errno.h.
 */
#ifndef PILOTAGE_SWEEP_KERNEL_H
#define PILOTAGE_SWEEP_KERNEL_H

#include <sys/types.h>

#define ENTRIES_SIZE	32768

/* An open directory, and the entries read from it that next_entry() gives. */
struct directory {
	int	fd;
	long	filled, at;
	char	entries[ENTRIES_SIZE] __attribute__((aligned(8)));
};

struct entry {
	const char	*name;	/* until the next one is read */
	int		 is_directory;	/* as far as its file system says */
};

long	kernel(long number, long a, long b, long c, long d, long e);

int	open_at(int at, const char *name, int flags);
void	close_fd(int fd);
int	unlink_at(int at, const char *name, int flags);
int	rename_at(int from, const char *name, int to, const char *other);
/* A directory without following links: its owner gets every right on it. */
int	allow_at(int at, const char *name);
/* The same, by a descriptor; nothing is written when the rights are there. */
int	allow(int fd);
/* The owner of a name, links not followed; -1: not known. */
uid_t	owner_at(int at, const char *name);
/* Is a name on another device than its directory? */
int	is_elsewhere(int at, const char *name);

void	use_directory(struct directory *, int fd);
void	rewind_directory(struct directory *);
/* The next entry but "." and ".."; 0 at the end. */
int	next_entry(struct directory *, struct entry *);

int	is_same(const char *, const char *);
/* Append a text, or a number in decimals; where to go on. */
char	*put_text(char *, const char *);
char	*put_number(char *, unsigned long);

#endif
