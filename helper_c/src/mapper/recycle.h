/* Verb recycle: end the leases that nobody uses any more. */
#ifndef PILOTAGE_MAPPER_RECYCLE_H
#define PILOTAGE_MAPPER_RECYCLE_H

#include "map/config.h"

/*
 * Root's alone, run by a timer. Prints a line for each lease whose keep time
 * is over; returns the exit code: 0, also when all are kept, or 202.
 */
int	recycle(const struct pil_map_config *);

#endif
