/*
 * Our own notes in a gridmapdir: where to look first, and whose a lease is.
 *
 * They can save a search or refuse somebody, and never lead to an account: what
 * they say is proven by the links, and without them everything is found, too.
 */
#ifndef PILOTAGE_MAP_NOTE_H
#define PILOTAGE_MAP_NOTE_H

#include "pilotage/map.h"

/* In an account's file, which other services leave empty. */
struct pil_note {
	char	 account[PIL_ACCOUNT_SIZE];
	char	 lease[PIL_LEASE_SIZE];
	char	 owner[65];	/* pil_lease_owner() */
};

/* 1, or 0: there is none that could be one. */
int	pil_note_read(int dir, const char *name, struct pil_note *);
int	pil_note_parse(char *text, struct pil_note *);
/* 0, or -1 with errno. */
int	pil_note_write(int dir, const char *name, const struct pil_note *);

/* Accounts of a pool that were free when the directory was last read. */
#define PIL_FREE_MAX	48

struct pil_free {
	size_t	 n;
	char	 name[PIL_FREE_MAX][PIL_ACCOUNT_SIZE];
};

void	pil_free_read(int dir, const char *pool, struct pil_free *);
void	pil_free_parse(char *text, const char *pool, struct pil_free *);
void	pil_free_write(int dir, const char *pool, const struct pil_free *);
void	pil_free_forget(int dir);
/* Keep the lowest ones in order. */
void	pil_free_add(struct pil_free *, const char *name);

#endif
