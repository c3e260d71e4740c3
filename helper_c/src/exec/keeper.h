/* The child of the split, on its way to pilotage-keep. */
#ifndef PILOTAGE_EXEC_KEEPER_H
#define PILOTAGE_EXEC_KEEPER_H

/* Become root and pilotage-keep; a failure is told to the front. */
void	keeper(int front, int handover) __attribute__((noreturn));

#endif
