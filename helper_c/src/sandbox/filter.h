/*
 * Filters of system calls (seccomp) as a search tree.
 */
#ifndef PILOTAGE_SANDBOX_FILTER_H
#define PILOTAGE_SANDBOX_FILTER_H

#include <linux/filter.h>

#include <stddef.h>

#define PIL_FILTER_CALLS	128	/* in one list */
#define PIL_FILTER_MAX		255	/* instructions: how far a jump goes */

#define PIL_FILTER_CODE_MAX	8	/* instructions for one answer */

/* What is done about a call: instructions that end in a return. */
struct pil_answer {
	struct sock_filter	code[PIL_FILTER_CODE_MAX];
	unsigned char		length;
};

/* One call, or all numbers of a range. */
struct pil_call {
	unsigned int		 first;
	unsigned int		 last;
	const struct pil_answer	*answer;
};

/*
 * Write the filter: calls of another architecture kill, those of the list have
 * their answer and all others the other one. The number of instructions, or 0
 * when it does not fit. The list is sorted; no number may stand in it twice.
 */
unsigned short	pil_filter(struct sock_filter [PIL_FILTER_MAX],
		    struct pil_call *calls, size_t n,
		    const struct pil_answer *others);

#endif
