/* What a lease is called (glexec.md 2.2). */
#ifndef PILOTAGE_MAP_LEASENAME_H
#define PILOTAGE_MAP_LEASENAME_H

#include <stddef.h>

enum pil_lease_names {
	PIL_LEASES_STRICT,	/* two DNs never have one name */
	PIL_LEASES_LCMAPS	/* lower-cased, as LCMAPS writes them */
};

/*
 * Encode a DN for a lease: every byte but lower-case letters and digits as
 * %xx. Strict: of the canonical form. As LCMAPS: of the DN as it is, and
 * lower-cased first, so that two people whose names differ only in case have
 * one name. -1: no such name.
 */
int	pil_lease_name(const char *dn, const char *suffix,
	    enum pil_lease_names, char *out, size_t size);

/* SHA-256 of the canonical DN in hex: the owner, whatever the lease's name. */
int	pil_lease_owner(const char *dn, char hex[65]);

/* Is it an account of the pool: its name and digits? */
int	pil_in_pool(const char *entry, const char *pool);

/* Shorter first, so that demo9 comes before demo10. */
int	pil_by_number(const char *left, const char *right);

/* Can the entry of a gridmapdir be an account's file, or a lease? */
int	pil_is_account_file(const char *entry);
int	pil_is_lease(const char *entry);

#endif
