/* The name service's modules. */
#ifndef PILOTAGE_MAPPER_MODULES_H
#define PILOTAGE_MAPPER_MODULES_H

/*
 * Load those that accounts and groups are asked of, before the question is
 * there: it waits for the verifier, and loading them takes as long as the rest.
 * No more than a wish: what cannot be loaded is left to the lookup.
 */
void	modules_load(void);

#endif
