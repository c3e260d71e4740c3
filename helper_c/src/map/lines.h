/* Site files of one entry a line, each read whole. */
#ifndef PILOTAGE_MAP_LINES_H
#define PILOTAGE_MAP_LINES_H

#include "pilotage/map.h"

/*
 * Called for each line, without the blanks before it; never for an empty one
 * or a comment. The line may be changed. 0, or -1: it is broken.
 */
typedef int pil_line_taker(void *arg, char *line);

/*
 * Read the file into *text, which the caller frees, and give each line to
 * take. One broken line refuses the file, and detail lists all of them.
 */
enum pil_reason	pil_lines_read(const char *path, int any_owner, char **text,
		    pil_line_taker *take, void *arg, char *detail);

#endif
