/*
 * Filters of system calls (seccomp) as a search tree.
 *
 * When a filter is installed the kernel runs it once for every number there
 * is, to know those that it always allows, and it compiles each instruction.
 * A list that compares one number after the other took 130 microseconds for
 * that, in each process that maps; a tree with one answer of each kind takes
 * 50. The numbers differ between architectures, so it is made when it is used.
 */
#include <sys/syscall.h>

#include <linux/audit.h>
#include <linux/seccomp.h>
#include <limits.h>

#include "sandbox/filter.h"

#if defined(__x86_64__)
#define ARCH	AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define ARCH	AUDIT_ARCH_AARCH64
#else
#error "no system call filter for this architecture"
#endif

#define LOAD(field)	(struct sock_filter)BPF_STMT(BPF_LD | BPF_W | \
			    BPF_ABS, offsetof(struct seccomp_data, field))
#define KILL		(struct sock_filter)BPF_STMT(BPF_RET | BPF_K, \
			    SECCOMP_RET_KILL_PROCESS)

#define REGIONS	(2 * PIL_FILTER_CALLS + 1)
#define ANSWERS	8	/* different ones in one list */

/* Numbers from here to the next region's have one answer. */
struct region {
	unsigned int	first;
	unsigned int	answer;
};

struct tree {
	struct sock_filter	*code;
	size_t			 at;
	struct region		 region[REGIONS];
	size_t			 nregions;
	const struct pil_answer	*answer[ANSWERS];
	size_t			 nanswers;
	/* Where the jumps to the answers are, and which they are to. */
	struct {
		size_t		 from;
		unsigned int	 answer;
		int		 if_true;
	} jump[REGIONS + 1];
	size_t			 njumps;
	int			 full;
};

static void
put(struct tree *tree, struct sock_filter one)
{
	if (tree->at == PIL_FILTER_MAX)
		tree->full = 1;
	else
		tree->code[tree->at++] = one;
}

static void
sort(struct pil_call *calls, size_t n)
{
	size_t i, j;

	for (i = 1; i < n; i++) {
		struct pil_call one = calls[i];

		for (j = i; j > 0 && calls[j - 1].first > one.first; j--)
			calls[j] = calls[j - 1];
		calls[j] = one;
	}
}

static unsigned int
index_of(struct tree *tree, const struct pil_answer *answer)
{
	size_t i;

	for (i = 0; i < tree->nanswers; i++)
		if (tree->answer[i] == answer)
			return (unsigned int)i;
	if (i == ANSWERS) {
		tree->full = 1;
		return 0;
	}
	tree->answer[tree->nanswers++] = answer;
	return (unsigned int)i;
}

/* Neighbours with one answer are one region. */
static void
add_region(struct tree *tree, unsigned int first,
    const struct pil_answer *answer)
{
	unsigned int which = index_of(tree, answer);
	struct region *last = &tree->region[tree->nregions];

	if (tree->nregions > 0 && last[-1].first == first) {
		tree->nregions--;
		last--;
	}
	if (tree->nregions > 0 && last[-1].answer == which)
		return;
	*last = (struct region){ first, which };
	tree->nregions++;
}

static void
jump_to(struct tree *tree, size_t from, unsigned int answer, int if_true)
{
	tree->jump[tree->njumps].from = from;
	tree->jump[tree->njumps].answer = answer;
	tree->jump[tree->njumps].if_true = if_true;
	tree->njumps++;
}

/* Between the regions low and high, both of them in it. */
static void
branch(struct tree *tree, size_t low, size_t high)
{
	size_t middle = (low + high + 1) / 2, from = tree->at;

	put(tree, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K,
	    tree->region[middle].first, 0, 0));
	if (tree->full)
		return;
	if (middle - 1 == low)
		jump_to(tree, from, tree->region[low].answer, 0);
	else
		branch(tree, low, middle - 1);
	if (middle == high)
		jump_to(tree, from, tree->region[high].answer, 1);
	else {
		tree->code[from].jt = (unsigned char)(tree->at - from - 1);
		branch(tree, middle, high);
	}
}

static void
put_answers(struct tree *tree)
{
	size_t i, j, start, from;

	for (i = 0; i < tree->nanswers; i++) {
		start = tree->at;
		for (j = 0; j < tree->answer[i]->length; j++)
			put(tree, tree->answer[i]->code[j]);
		for (j = 0; j < tree->njumps; j++) {
			if (tree->jump[j].answer != i)
				continue;
			from = tree->jump[j].from;
			if (tree->jump[j].if_true)
				tree->code[from].jt =
				    (unsigned char)(start - from - 1);
			else
				tree->code[from].jf =
				    (unsigned char)(start - from - 1);
		}
	}
}

unsigned short
pil_filter(struct sock_filter code[PIL_FILTER_MAX], struct pil_call *calls,
    size_t n, const struct pil_answer *others)
{
	struct tree tree = { .code = code };
	size_t i;

	if (n > PIL_FILTER_CALLS)
		return 0;
	sort(calls, n);
	add_region(&tree, 0, others);
	for (i = 0; i < n; i++) {
		add_region(&tree, calls[i].first, calls[i].answer);
		if (calls[i].last != UINT_MAX)
			add_region(&tree, calls[i].last + 1, others);
	}
	put(&tree, LOAD(arch));
	put(&tree, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K,
	    ARCH, 1, 0));
	put(&tree, KILL);
	put(&tree, LOAD(nr));
	if (tree.nregions > 1)
		branch(&tree, 0, tree.nregions - 1);
	put_answers(&tree);
	return tree.full ? 0 : (unsigned short)tree.at;
}
