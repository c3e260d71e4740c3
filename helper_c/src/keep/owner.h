/* Who the owner is and which account that makes. */
#ifndef PILOTAGE_KEEP_OWNER_H
#define PILOTAGE_KEEP_OWNER_H

#include "keep/run.h"

/* Start the verifier, and the mapper, which is root's; or refuse. */
void	owner_begin(struct run *);
/* Fill in the owner, within the caller's bounds, or refuse. */
void	owner_identify(struct run *);
/* Fill in the account, or refuse; verb map ends here. */
void	owner_map(struct run *);

#endif
