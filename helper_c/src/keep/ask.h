/* One question to a program of its own, one answer of fixed size. */
#ifndef PILOTAGE_KEEP_ASK_H
#define PILOTAGE_KEEP_ASK_H

#include "keep/run.h"

#define ASK_SECONDS	5

/* A program, and once it is started its process and our ends of its pipes. */
struct asked {
	const char	*who;		/* for the log: "verifier", "mapper" */
	/* In the child: limits, ids, execve; returns only on failure. */
	int		(*become)(const struct run *);
	enum pil_reason	 died;		/* what it is when there is no answer */
	struct child	*child;
	int		 in, out;
};

struct question {
	const void	*head, *body;	/* sent one after the other */
	size_t		 head_len, body_len;
};

/* Start it; PIL_OK or HELPER_SYSTEM. It waits for its question. */
enum pil_reason	ask_begin(struct run *, struct asked *, struct child *,
		    char *detail);
/* PIL_OK and the bytes received; HELPER_SYSTEM; or `died`. */
enum pil_reason	ask(struct run *, const struct asked *,
		    const struct question *, void *answer, size_t size,
		    size_t *got, char *detail);
/* Never above what the process has. */
int		ask_limit(int resource, unsigned long value);

#endif
