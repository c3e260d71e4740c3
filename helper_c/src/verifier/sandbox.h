/*
 * What pilotage-verify gives up before it looks at a byte of input.
 */
#ifndef PILOTAGE_VERIFIER_SANDBOX_H
#define PILOTAGE_VERIFIER_SANDBOX_H

/* Each returns 0, or -1 when the promise could not be kept. */
int	sandbox_limits(void);
int	sandbox_files(int first, int second);
int	sandbox_calls(void);

#endif
