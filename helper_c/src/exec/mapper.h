/* The mapper's process: asked once, believed after a check. */
#ifndef PILOTAGE_EXEC_MAPPER_H
#define PILOTAGE_EXEC_MAPPER_H

#include "exec/run.h"

/* Which account does the verified owner get? PIL_OK: run->map is sound. */
enum pil_reason	mapper_ask(struct run *, char *detail);

#endif
