/* A new proxy for a running payload. */
#ifndef PILOTAGE_KEEP_RENEW_H
#define PILOTAGE_KEEP_RENEW_H

#include "keep/run.h"

/* Judge the proxy in a sealed memory file and put it in place of the old one. */
enum pil_reason	renew(struct run *, int fd, char *detail);

#endif
