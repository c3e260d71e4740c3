/*
 * Names as grids write them: slash-form DNs and VOMS FQANs (glexec.md 2.1).
 */
#ifndef PILOTAGE_BASE_NAMES_H
#define PILOTAGE_BASE_NAMES_H

#include <stddef.h>

#include "pilotage/verify.h"

/* Room for a canonical DN: every byte of a value may need an escape. */
#define PIL_CANONICAL_SIZE	(2 * PIL_DN_SIZE + 64)

/*
 * One spelling for each DN: attribute types by one name, \xHH as its byte, a
 * slash or backslash inside a value escaped. Different names never become
 * equal. -1: not a DN.
 */
int	pil_dn_canonical(const char *dn, char *out, size_t size);

/* Slash-form DNs equal attribute by attribute (old spellings included). */
int	pil_dn_equal(const char *, const char *);

/* A key of a map file is a DN when its first component holds a '='. */
int	pil_is_dn(const char *);

/* Cut "/Role=NULL" and "/Capability=NULL"; -1: not an FQAN. */
int	pil_fqan_normalise(const char *fqan, char *out, size_t size);

/* Does a map file's FQAN pattern cover the FQAN? Component by component. */
int	pil_fqan_match(const char *pattern, const char *fqan);

/* Is fqan the bound itself or below it, component by component? */
int	pil_fqan_below(const char *bound, const char *fqan);

/* '*' any run of bytes, '?' any byte. */
int	pil_glob(const char *pattern, const char *text);

#endif
