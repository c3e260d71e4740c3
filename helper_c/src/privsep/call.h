/*
 * One call of pilotage-exec: what the caller asks for, as the command line says
 * it, and what the kernel says of the caller. The setuid program fills it in;
 * pilotage-keep gets it by handover.h.
 */
#ifndef PILOTAGE_PRIVSEP_CALL_H
#define PILOTAGE_PRIVSEP_CALL_H

#include <sys/resource.h>
#include <sys/types.h>

#define PIL_STATUS_FD	3	/* where the front keeps --status-fd */
#define PIL_JOB_ID_SIZE	129

enum verb { VERB_RUN, VERB_MAP, VERB_CLEANUP, VERB_CHECK_CONFIG, VERB_CONTROL,
    VERB_VERSION };

/* The hierarchies of control groups; of version 1 all but the first. */
enum tree { TREE_UNIFIED, TREE_MEMORY, TREE_PIDS, TREE_CPU, NTREES };

struct options {
	enum verb	 verb;
	const char	*proxy;		/* decides who the owner is */
	const char	*run_id;	/* cleanup: NULL for all */
	const char	*source;	/* handed to the payload; NULL: proxy */
	const char	*account;	/* map, glexec: the only one accepted; or NULL */
	char		 job_id[PIL_JOB_ID_SIZE]; /* for the log, made clean */
	unsigned long long bounds[NTREES]; /* as asked for; 0: not */
	int		 no_target;	/* hand no proxy to the payload */
	int		 glexec;	/* run by gLExec's contract */
	const char	*target;	/* glexec: where the proxy goes, or NULL */
	int		 status_fd;	/* as the caller numbered it; -1: none */
	char		**command;	/* glexec: NULL writes the proxy only */
};

struct ids {
	uid_t		 uid;
	gid_t		 gid;
};

struct call {
	struct options	 options;
	struct ids	 pilot;		/* who called, from the kernel */
	pid_t		 pid;		/* that the caller waits for */
	pid_t		 parent;	/* whose end ends the run */
	mode_t		 mask;		/* the caller's umask and variables, */
	char		**environment;	/* for verb glexec alone */
	struct rlimit	 limits[RLIM_NLIMITS];	/* as the caller had them */
};

#endif
