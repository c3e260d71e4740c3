/* Files that take whole lines at their end; logonly/lines.c opens its own. */
#ifndef PILOTAGE_KEEP_LINES_H
#define PILOTAGE_KEEP_LINES_H

/* Open a file to append to, or -1 with what is wrong. */
int	lines_open(const char *path, char *detail);
/* End a half line that is its last. 0, or -1 with errno. */
int	lines_mend(int file);

#endif
