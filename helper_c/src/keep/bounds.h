/* What a caller may do: pure questions to the configuration. */
#ifndef PILOTAGE_KEEP_BOUNDS_H
#define PILOTAGE_KEEP_BOUNDS_H

#include "keep/run.h"

/* The caller's section, or NULL. */
const struct caller *bounds_caller(const struct config *, const char *name);
/* May this caller run payloads of this owner? */
enum pil_reason	bounds_owner(const struct caller *,
		    const struct pil_identity *, char *detail);

#endif
