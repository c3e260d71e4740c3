/* Which commands payloads may be: a list of paths with wildcards. */
#ifndef PILOTAGE_MAP_COMMANDS_H
#define PILOTAGE_MAP_COMMANDS_H

#include "pilotage/map.h"

/*
 * Is the command within the pattern? "*" and "?" stay inside their component;
 * a pattern that ends in a slash covers everything below it.
 */
int		pil_command_fits(const char *pattern, const char *command);

/* An absolute path without empty, "." and ".." components. */
int		pil_command_plain(const char *path);

/* PIL_OK when a line of the file covers the command. */
enum pil_reason	pil_commands_check(const char *path, int any_owner,
		    const char *command, char *detail);

#endif
