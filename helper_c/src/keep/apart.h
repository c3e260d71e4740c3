/* The monitor's way out of a group that is not root's. */
#ifndef PILOTAGE_KEEP_APART_H
#define PILOTAGE_KEEP_APART_H

/*
 * Leave the caller's group of version 2 if the caller can move, freeze or kill
 * what is in it; -1 and errno: it can, and there is no way out.
 */
int	apart_go(void);

#endif
