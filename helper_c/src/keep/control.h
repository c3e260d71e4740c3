/* The run's control socket: only its creator and root are heard. */
#ifndef PILOTAGE_KEEP_CONTROL_H
#define PILOTAGE_KEEP_CONTROL_H

#include "keep/run.h"
#include "privsep/order.h"

/* Listen in the run's own directory; -1: errno says why. */
int	control_open(struct run *);
/* Have a connection taken; an older one that has said nothing gives way. */
void	control_accept(struct run *);
/* 1: here is an order, and perhaps a sealed memory file; 0: there is none. */
int	control_hear(struct run *, struct order *, int *fd);
/* Say how it went and hang up. */
void	control_answer(struct run *, enum pil_reason, const char *detail);
/* Let the last clerk end, or make it. */
void	control_end(struct run *);

#endif
