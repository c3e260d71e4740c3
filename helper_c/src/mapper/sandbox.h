/* What mapping needs of the system, and nothing else. */
#ifndef PILOTAGE_MAPPER_SANDBOX_H
#define PILOTAGE_MAPPER_SANDBOX_H

#include "map/config.h"

/*
 * Close it before anything of the request is looked at: capabilities, limits,
 * files, system calls. NULL: there is no configuration. 0, or -1.
 */
int	sandbox(const struct pil_map_config *);

/*
 * The same for verb recycle, which has read no request: it may look into
 * everybody's files, and has more time.
 */
int	sandbox_recycler(const struct pil_map_config *);

/* Its parts. */
int	sandbox_files(const char *writable);
int	sandbox_calls(void);

#endif
