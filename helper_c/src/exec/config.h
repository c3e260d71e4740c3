/* helper.conf: see docs/helper-interface.md. */
#ifndef PILOTAGE_EXEC_CONFIG_H
#define PILOTAGE_EXEC_CONFIG_H

#include "exec/run.h"

/* Read the compiled-in file. Strings live as long as the process. */
enum pil_reason	config_load(struct config *, char *detail);

#endif
