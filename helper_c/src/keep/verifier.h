/* The verifier's process: asked once, believed after a check. */
#ifndef PILOTAGE_KEEP_VERIFIER_H
#define PILOTAGE_KEEP_VERIFIER_H

#include "keep/run.h"

/* Start one before its question is known. PIL_OK or HELPER_SYSTEM. */
enum pil_reason	verifier_begin(struct run *, char *detail);
/* Who is it? PIL_OK: the record says so; else why not, and it is empty. */
enum pil_reason	verifier_ask(struct run *, const struct proxy *,
		    struct pil_record *, char *detail);

#endif
