/*
 * The reader of the files that give a meaning to DNs and FQANs (glexec.md 2.1).
 */
#ifndef PILOTAGE_MAP_MAPFILE_H
#define PILOTAGE_MAP_MAPFILE_H

#include <stddef.h>

#include "pilotage/map.h"

enum pil_mapkind {
	PIL_GRID_MAP,	/* DNs and FQANs; each line names accounts or .pools */
	PIL_GROUP_MAP,	/* FQANs only, and each names groups */
	PIL_BAN_MAP,	/* each line is a name; what follows is not looked at */
	PIL_ALLOW_MAP	/* the same, of DNs only */
};

/*
 * A file read whole: NUL-terminated strings one after the other, a key and its
 * mappings in turn, keys alone of the two last kinds.
 */
struct pil_mapfile {
	char		*text;
	char		*end;
	enum pil_mapkind kind;
};

/*
 * Read and check every line: one broken line refuses the file, and detail
 * lists all of them. An empty path of a configured file never counts as none.
 */
enum pil_reason	pil_mapfile_read(struct pil_mapfile *, const char *path,
		    enum pil_mapkind, int any_owner, char *detail);
void		pil_mapfile_free(struct pil_mapfile *);

/* The pair after *cursor (start with NULL); 0 at the end. */
int		pil_mapfile_next(const struct pil_mapfile *,
		    const char **cursor, const char **maps);

/* Is it the same name, or with wildcards, which cross slashes, within it? */
int		pil_dn_fits(const char *key, const char *dn, int wildcards);

#endif
