/* Is a home as it was when the account was made? */
#ifndef PILOTAGE_MAPPER_HOME_H
#define PILOTAGE_MAPPER_HOME_H

#include <sys/types.h>

/*
 * 0: it is missing, or nobody but the account can write to it and it holds
 * nothing but unchanged copies of files of /etc/skel. -1, with detail: it
 * holds something else, or cannot be looked at.
 */
int	home_is_new(const char *path, uid_t, char *detail);

#endif
