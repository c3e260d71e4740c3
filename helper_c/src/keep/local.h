/* Accounts of this machine's own file, for what the helper itself needs. */
#ifndef PILOTAGE_KEEP_LOCAL_H
#define PILOTAGE_KEEP_LOCAL_H

#include <pwd.h>

#include "keep/run.h"

/* The uid's name, or its number where it has none; -1: errno says why. */
int	local_name(uid_t, char *name, size_t);
/* A group's name, or its number where /etc/group has none. */
void	local_group(gid_t, char *name, size_t);
/*
 * The first entry of /etc/passwd with this name or, when it is NULL, this uid:
 * 1, 0 when there is none, -1 with errno. It lasts until the next call.
 */
int	local_find(const char *name, uid_t, struct passwd *);
/* A name's ids: 1, 0 when there is none, -1 with errno. */
int	local_ids(const char *name, struct ids *);

#endif
