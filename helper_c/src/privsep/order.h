/*
 * What a run's control socket takes: one order in a packet, with the new proxy
 * as a sealed memory file beside it. The answer is a struct message.
 */
#ifndef PILOTAGE_PRIVSEP_ORDER_H
#define PILOTAGE_PRIVSEP_ORDER_H

#include <stdint.h>

#define PIL_RUN_ID_SIZE	33	/* 128 random bits in hex, and a NUL */
#define PIL_CONTROL	"control"	/* its name, in RUNDIR/jobs/<run id>/ */

enum order_kind { ORDER_SIGNAL = 'S', ORDER_RENEW = 'R' };

struct order {
	uint8_t	kind;
	uint8_t	signal;
	uint8_t	all;		/* every process, not only the main one */
	uint8_t	unused;
};

/* Sealed so, its bytes cannot change and reading them cannot block. */
#define PIL_SEALS	(F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | \
			    F_SEAL_WRITE)

#endif
