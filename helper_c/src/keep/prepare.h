/* Steps 6 to 9: what may refuse before anything is done. */
#ifndef PILOTAGE_KEEP_PREPARE_H
#define PILOTAGE_KEEP_PREPARE_H

#include "keep/run.h"

/* A run of which nothing has begun, and its call as it was handed over. */
void		prepare_call(struct run *);
/* A run id, and what helper.conf says or what is wrong with it. */
enum pil_reason	prepare_config(struct run *, char *detail);
/* Open the logs, and refuse what is to be refused for this reason. */
void		prepare_log(struct run *, enum pil_reason, const char *why);
/* May this caller do that, and with which proxies? */
void		prepare_caller(struct run *);

#endif
