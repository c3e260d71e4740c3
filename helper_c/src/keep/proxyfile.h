/* The caller's proxy file, opened once (helper.md C1-C4). */
#ifndef PILOTAGE_KEEP_PROXYFILE_H
#define PILOTAGE_KEEP_PROXYFILE_H

#include "keep/run.h"

/* With the caller's own rights; fills in the bytes and their digest. */
enum pil_reason	proxyfile_read(const struct run *, const char *path,
		    struct proxy *, char *detail);
/* Overwrite the bytes of both proxies. */
void		proxyfile_forget(const struct run *);

#endif
