/* Phase 3: the payload's process, from root to the account to the command. */
#ifndef PILOTAGE_KEEP_PAYLOAD_H
#define PILOTAGE_KEEP_PAYLOAD_H

#include "keep/run.h"

/* Why the command was not executed, from the child to the monitor. */
struct failure {
	enum pil_reason	 reason;
	int		 code;		/* exit code; 0: the reason's own */
	char		 detail[PIL_DETAIL_SIZE];
};

struct start {
	int	go;	/* one byte lets the child go on; closed: it ends */
	int	failed;	/* a struct failure, or end of file at execve */
};

/* Make the process, in its cgroup; it waits for the byte. 0, or -1. */
int	payload_clone(struct run *, struct start *);

#endif
