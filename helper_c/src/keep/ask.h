/* One question to a program of its own, one answer of fixed size. */
#ifndef PILOTAGE_KEEP_ASK_H
#define PILOTAGE_KEEP_ASK_H

#include "keep/run.h"

#define ASK_SECONDS	5

struct question {
	const char	*who;		/* for the log: "verifier", "mapper" */
	/* In the child: limits, ids, execve; returns only on failure. */
	int		(*become)(const struct run *);
	const void	*head, *body;	/* sent one after the other */
	size_t		 head_len, body_len;
};

/* PIL_OK and the bytes received; HELPER_SYSTEM; or `died`. */
enum pil_reason	ask(struct run *, const struct question *,
		    enum pil_reason died, void *answer, size_t size,
		    size_t *got, char *detail);
/* Never above what the process has. */
int		ask_limit(int resource, unsigned long value);

#endif
