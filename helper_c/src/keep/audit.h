/* The audit log: one JSON line for each START, END and REFUSED. */
#ifndef PILOTAGE_KEEP_AUDIT_H
#define PILOTAGE_KEEP_AUDIT_H

#include "base/text.h"
#include "keep/run.h"

/* Open the sinks that the configuration names; -1: none can be used. */
int	audit_open(struct run *, char *detail);
/* A datagram socket to the log daemon; -1: the machine has none. */
int	audit_daemon(void);
/* Begin a line with all that is known of the run. */
void	audit_begin(const struct run *, struct pil_json *, const char *event);
/* Say that it is no switch, where it is none. */
void	audit_mode(const struct run *, struct pil_json *);
/* The bounds that are set, with the names they have in the configuration. */
void	audit_bounds(const struct run *, struct pil_json *);
/* Write it to every sink; -1: the file did not take the whole line. */
int	audit_write(const struct run *, struct pil_json *);

#endif
