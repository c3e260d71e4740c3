/*
 * The fixed-size record that pilotage-verify writes to its standard output and
 * pilotage-keep checks before it believes a byte of it (helper.md C10).
 */
#ifndef PILOTAGE_RECORD_H
#define PILOTAGE_RECORD_H

#include "pilotage/verify.h"

#define PIL_RECORD_MAGIC	"PILVRFY1"
#define PIL_RECORD_VERSION	1u

struct pil_record {
	char			 magic[8];	/* PIL_RECORD_MAGIC, no NUL */
	uint32_t		 version;
	uint32_t		 size;		/* sizeof(struct pil_record) */
	uint8_t			 nonce[16];	/* as the monitor sent it */
	uint8_t			 digest[32];	/* SHA-256 of the PEM bytes */
	struct pil_identity	 who;
	char			 tail[8];	/* PIL_RECORD_MAGIC again */
};

/* What the monitor sends on the verifier's standard input before the PEM. */
struct pil_request {
	char		 magic[8];
	uint32_t	 version;
	uint32_t	 pem_size;
	uint8_t		 nonce[16];
	int64_t		 at;
	int32_t		 skew;
	uint32_t	 policy;
	int64_t		 max_voms_seconds;
	int64_t		 max_proxy_seconds;
};

/*
 * Check a record against the request it answers; PIL_OK when every field is
 * possible (strings terminated and printable, counts within bounds, times
 * ordered and around `now`), else PIL_VERIFIER_RECORD. Does not judge who->reason.
 */
enum pil_reason	pil_record_check(const struct pil_record *, size_t received,
		    const struct pil_request *, const uint8_t digest[32],
		    int64_t now);

#endif
