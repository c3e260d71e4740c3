/* Removing a directory tree whose owner may still be changing it. */
#ifndef PILOTAGE_SWEEP_TREE_H
#define PILOTAGE_SWEEP_TREE_H

/* Remove the name below the directory; 0 when it is gone. */
int	tree_remove(int dir, const char *name);

#endif
