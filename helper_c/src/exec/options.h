/* The command line; nothing here touches the system. */
#ifndef PILOTAGE_EXEC_OPTIONS_H
#define PILOTAGE_EXEC_OPTIONS_H

#include "privsep/call.h"

/* Bytes of a list of strings. */
size_t		options_size(char **);
/* NULL, or what is wrong; others is the size of the environment. */
const char	*options_parse(struct options *, int argc, char **argv,
		    size_t others);

#endif
