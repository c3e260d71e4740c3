/*
 * Chains that were verified and would be again, for processes that live long
 * and ask about the same ones: an exact memory, not one that forgets in time.
 *
 * What is remembered is found again only while a verification would give the
 * same answer: for the same bytes, the same options, a time at which every
 * comparison has the same result, and files and directories that are what they
 * were (docs/adr/0010). Only chains without a private key, and no refusals.
 *
 * The identities stay with the caller, who keeps them by ticket: a slot below
 * the number of entries, `ticket % entries`, holds one identity at a time, and
 * a ticket is never given twice.
 *
 * Neither pilotage-verify nor a program with privilege contains this.
 */
#ifndef PILOTAGE_CACHE_H
#define PILOTAGE_CACHE_H

#include "pilotage/verify.h"

struct pil_cache;

struct pil_cache_state {
	uint64_t	 hits;
	uint64_t	 kept;		/* verifications that were remembered */
	uint64_t	 changed;	/* forgotten: a file was another one */
	uint64_t	 evicted;	/* forgotten for want of room */
	uint64_t	 entries;
	uint64_t	 bytes;		/* of the memory that is bounded */
};

/*
 * At most so many chains and bytes. The options, but for `at`, are those of
 * every verification; they and what they point to must stay as they are until
 * pil_cache_free(). NULL without memory.
 */
struct pil_cache	*pil_cache_new(const struct pil_verify_options *,
			    uint32_t entries, size_t bytes);
void			 pil_cache_free(struct pil_cache *);

/*
 * The ticket of these certificates (DER, leaf first), when a verification as
 * of `at` (Unix seconds; 0: now) would give what it gave when the ticket was
 * given; else 0. Some stat(2), no cryptography. Any thread.
 */
uint64_t		 pil_cache_find(struct pil_cache *, const void *der,
			    size_t len, int64_t at);

/*
 * Verify as pil_verify_der() does, never from memory, and remember it where
 * that is exact: *ticket is 0 where it is not. Any thread.
 */
enum pil_reason		 pil_cache_verify(struct pil_cache *, const void *der,
			    size_t len, int64_t at, struct pil_identity *,
			    uint64_t *ticket);

void			 pil_cache_look(struct pil_cache *,
			    struct pil_cache_state *);

#endif
