/* The mapper's process: asked once, believed after a check. */
#ifndef PILOTAGE_KEEP_MAPPER_H
#define PILOTAGE_KEEP_MAPPER_H

#include "keep/run.h"

/* Start the mapper; nobody is named to it yet. PIL_OK or HELPER_SYSTEM. */
enum pil_reason	mapper_begin(struct run *, char *detail);
/* Which account does the verified owner get? PIL_OK: run->map is sound. */
enum pil_reason	mapper_ask(struct run *, char *detail);

#endif
