/* The child of the split, on its way to pilotage-keep. */
#ifndef PILOTAGE_EXEC_KEEPER_H
#define PILOTAGE_EXEC_KEEPER_H

#include "privsep/call.h"

/*
 * Become root and pilotage-keep; or, plain, the caller for good and
 * pilotage-logonly. A failure is told to the front.
 */
void	keeper(const struct call *, int front, int handover, int plain)
	    __attribute__((noreturn));

#endif
