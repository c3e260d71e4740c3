/* helper.conf: see docs/helper-interface.md. */
#ifndef PILOTAGE_KEEP_CONFIG_H
#define PILOTAGE_KEEP_CONFIG_H

#include "keep/run.h"

/*
 * Read it whole; [map] is left to pilotage-map. Strings live as long as the
 * process. any_owner is for Python's dry runs.
 */
enum pil_reason	config_load(struct config *, const char *path, int any_owner,
		    char *detail);

#endif
