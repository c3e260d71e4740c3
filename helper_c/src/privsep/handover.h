/*
 * How a call gets from the setuid program to pilotage-keep: a sealed memory
 * file with this head and then strings, each with its NUL, in this order: those
 * of PROXY to TARGET that are given, the command's words, the variables.
 */
#ifndef PILOTAGE_PRIVSEP_HANDOVER_H
#define PILOTAGE_PRIVSEP_HANDOVER_H

#include <stddef.h>
#include <stdint.h>

#include "privsep/call.h"

#define HANDOVER_MAGIC		"PILKEEP"	/* and a NUL: 8 bytes */
#define HANDOVER_VERSION	1
#define HANDOVER_TEXT_MAX	(1024 * 1024)	/* of all strings */

/* The descriptors that pilotage-keep starts with, after the caller's 0 to 2. */
#define HANDOVER_FRONT_FD	3
#define HANDOVER_FD		4
/* pilotage-logonly: the logs' files, where pilotage-keep has opened them. */
#define HANDOVER_LOG_FD		5
#define HANDOVER_OLD_LOG_FD	6

enum handover_string { HANDOVER_PROXY, HANDOVER_RUN_ID, HANDOVER_SOURCE,
    HANDOVER_ACCOUNT, HANDOVER_TARGET, HANDOVER_STRINGS };

struct handover {
	char		 magic[8];
	uint32_t	 version;
	uint32_t	 given;		/* a bit for each string that there is */
	uint32_t	 words, variables;
	uint32_t	 verb, glexec, no_target;
	uint32_t	 uid, gid, mask;
	int32_t		 pid, parent;
	uint64_t	 bounds[NTREES];
	struct {
		uint64_t soft, hard;
	}		 limits[RLIM_NLIMITS];
	char		 job_id[PIL_JOB_ID_SIZE + 7];	/* without padding */
};

/* Setuid program: the memory file of a call, or -1 with errno. */
int		handover_make(const struct call *);
/*
 * pilotage-keep: take the call from it, or say what is wrong. What it points
 * to lives as long as the process.
 */
const char	*handover_take(int fd, struct call *);
/* The same of bytes that the call will point into. */
const char	*handover_decode(char *bytes, size_t len, struct call *);

#endif
