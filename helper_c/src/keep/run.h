/*
 * One run in pilotage-keep: everything that its steps know, filled in order.
 * README.privsep names the step of each function.
 */
#ifndef PILOTAGE_KEEP_RUN_H
#define PILOTAGE_KEEP_RUN_H

#include <limits.h>
#include <sched.h>
#include <stdint.h>

#include "pilotage/map.h"
#include "pilotage/record.h"
#include "privsep/call.h"
#include "privsep/order.h"

#define PIL_CALLERS_MAX	64
enum cgroup_use { CGROUP_AUTO, CGROUP_REQUIRED, CGROUP_OFF };
enum namespaces { NAMESPACES_OFF, NAMESPACES_AUTO, NAMESPACES_REQUIRED };

/*
 * What the two decisions are when each is a yes: nothing else is one, and from
 * no other value is either a few flipped bits away (CVE-2023-42465).
 */
#define PERMIT_OWNER	0x5a3c96c3u
#define PERMIT_ACCOUNT	0xc3965a3cu

struct caller {
	const char	*name;
	const char	*vos;		/* NULL: none */
	const char	*without_vo;	/* NULL: no */
	const char	*fqans;		/* NULL: any of the VOs' */
	const char	*accounts;
	const char	*glexec;	/* NULL: no */
};

struct config {
	const char	*ca_dir, *voms_dir, *verify_user, *audit_file;
	unsigned	 min_uid, min_gid, term_grace, clock_skew;
	unsigned	 max_proxy_life, max_voms_life; /* seconds; 0: the verifier's */
	unsigned	 syslog, require_crl, refuse_limited, no_new_privs;
	unsigned	 accept_old;	/* proxies older than the RFC */
	unsigned	 log_only;	/* mode; see logonly/main.c */
	unsigned	 cgroup;	/* enum cgroup_use */
	unsigned	 namespaces;	/* enum namespaces */
	unsigned long long tmp_bytes;	/* each of the private /tmp, ... */
	unsigned long long bounds[NTREES]; /* the site's; 0: none */
	const char	*cgroup_parent;	/* NULL: the caller's groups */
	unsigned	 old_log;	/* gLExec's lines to the log daemon, */
	const char	*old_file;	/* and to this file; NULL: no */
	size_t		 ncallers;
	struct caller	 callers[PIL_CALLERS_MAX];
};

struct proxy {
	char		*pem;
	size_t		 len;
	uint8_t		 digest[32];	/* SHA-256 of pem */
};

struct leaf {
	int		 parent, dir;	/* -1: none */
	char		 path[PATH_MAX]; /* for the record */
};

struct cgroup {
	struct leaf	 leaf[NTREES];
	int		 version[NTREES]; /* whose files count; 0: nobody does */
};

/* The run's place on its account; see slot.c. */
struct slot {
	int		 accounts;	/* RUNDIR/accounts */
	int		 account;	/* RUNDIR/accounts/<uid> */
	int		 jobs;		/* RUNDIR/jobs */
	int		 record;	/* flocked while the monitor lives */
	int		 lock;		/* flocked while the account changes hands */
	int		 starting;	/* flocked while recycling must wait */
	int		 begun;		/* there is something of our own record */
};

/* What a process has of the machine. */
struct share {
	int		 nice, oom_score, policy;
	int		 disk;		/* as ioprio_get(2) gives it */
	cpu_set_t	 cpus;
	int		 has_cpus;
};

/* A child of the monitor. */
struct child {
	pid_t		 pid;		/* 0: none */
	int		 pidfd;
	int		 ended;
	int		 status;	/* as wait(2) gives it */
};

struct control {
	int		 listener, client;	/* -1: none */
	struct child	 clerk;		/* at the other end of client */
	long long	 quiet;		/* until then nobody new is heard */
};

struct usage {
	long long	 user_usec, system_usec, maxrss_kib;
	long long	 memory_peak, pids_peak, oom_kills; /* -1: not known */
};

struct run {
	struct options	 options;
	struct config	 config;
	const struct caller *caller;
	struct ids	 pilot;		/* who called, from the kernel */
	pid_t		 pid;		/* that the caller waits for */
	mode_t		 mask;		/* the caller's umask and variables, */
	char		**environment;	/* for verb glexec alone */
	struct ids	 verifier;
	char		 caller_name[PIL_ACCOUNT_SIZE];
	char		 id[PIL_RUN_ID_SIZE];
	struct rlimit	 limits[RLIM_NLIMITS];	/* as the caller had them */
	struct share	 share;		/* the same */
	struct proxy	 proxy, source;
	int		 audit_file, audit_log;	/* -1: not open */
	int		 old_file, old_log;	/* the same for oldlog.c */
	int		 old_begun;	/* and it waits for the end */
	int		 front;		/* socket to the front */
	uint32_t	 owner_decision, account_decision;
	struct pil_mapping map;		/* whom the payload runs as */
	const struct pil_mapping *named; /* whom every line names */
	const char	*mode;		/* on every line; NULL: the switch */
	struct slot	 slot;
	struct control	 control;
	struct child	 payload;	/* its main process */
	struct child	 aide;		/* verifier, killer or cleaner */
	struct child	 mapper;	/* is there while the verifier works */
	struct child	 init;		/* of the namespaces, if there are any */
	int		 outside;	/* the monitor's own pidfd meanwhile */
	char		 missing[PIL_DETAIL_SIZE]; /* why there are none */
	struct usage	 usage;		/* of the payload and all it left */
	unsigned long long bounds[NTREES]; /* memory, pids, cpu; 0: none */
	int		 started;	/* START is in the log */
	long long	 start_usec;
	/* The large ones last, so that all others share few pages. */
	struct cgroup	 cgroup;
	char		 old_cwd[PATH_MAX];	/* the caller's, for oldlog.c */
	struct pil_record record;
};

#endif
