/*
 * From a verified identity to a local account, by the files that sites have
 * (glexec.md section 2) and the policy of helper.conf's [map].
 *
 * One request gives one answer, both of fixed size and without pointers:
 * pilotage-keep asks pilotage-map through pipes, Python asks the same code
 * through cffi. libc only.
 */
#ifndef PILOTAGE_MAP_H
#define PILOTAGE_MAP_H

#include "pilotage/verify.h"

#define PIL_ACCOUNT_SIZE	64
#define PIL_HOME_SIZE		1024
#define PIL_LEASE_SIZE		256	/* a file's name */
#define PIL_GROUPS_MAX		64
#define PIL_BOUNDS_SIZE		2048
#define PIL_COMMAND_SIZE	4096

#define PIL_MAP_MAGIC		"PILMAPR1"
#define PIL_MAP_VERSION		1u
#define PIL_NO_ID		0xffffffffu

/* pil_map_request.flags */
#define PIL_M_DRY_RUN	0x01u	/* look, lease nothing, change nothing */

struct pil_map_request {
	char		 magic[8];	/* PIL_MAP_MAGIC, no NUL */
	uint32_t	 version;
	uint32_t	 size;		/* sizeof(struct pil_map_request) */
	uint8_t		 nonce[16];
	uint32_t	 flags;
	uint32_t	 min_uid;	/* below: ACCOUNT_FORBIDDEN */
	uint32_t	 min_gid;	/* below: GROUP_FORBIDDEN */
	uint32_t	 caller;	/* uid never mapped to; PIL_NO_ID: none */
	uint32_t	 caller_gid;	/* nor to this group; */
	uint32_t	 verifier_uid;	/* nor to this uid, */
	uint32_t	 verifier_gid;	/* nor to this group */
	uint32_t	 zero;
	int64_t		 at;		/* Unix seconds, for time slots and leases */
	char		 accounts[PIL_BOUNDS_SIZE]; /* the caller's bounds; "": any */
	char		 expect[PIL_ACCOUNT_SIZE]; /* "": any account; else the
				 * only one, and nothing is leased for it */
	char		 command[PIL_COMMAND_SIZE]; /* "": not known yet */
	struct pil_identity who;
	char		 tail[8];
};

struct pil_mapping {
	char		 account[PIL_ACCOUNT_SIZE];
	char		 home[PIL_HOME_SIZE];
	char		 lease[PIL_LEASE_SIZE];	/* its name; "": none */
	uint32_t	 uid;
	uint32_t	 gid;
	uint32_t	 ngroups;
	uint32_t	 groups[PIL_GROUPS_MAX];
	char		 detail[PIL_DETAIL_SIZE]; /* why, in words */
};

struct pil_map_record {
	char		 magic[8];
	uint32_t	 version;
	uint32_t	 size;		/* sizeof(struct pil_map_record) */
	uint8_t		 nonce[16];	/* as it was asked */
	uint8_t		 digest[32];	/* pil_map_request_digest() of it */
	int32_t		 reason;	/* PIL_OK: map is the answer */
	struct pil_mapping map;		/* else only its detail */
	char		 tail[8];
};

/* Make a request sound but for its identity and bounds. 0, or -1. */
int		pil_map_request_init(struct pil_map_request *);

/* SHA-256 of all that the request says: up to the last FQAN that is there. */
void		pil_map_request_digest(const struct pil_map_request *,
		    uint8_t digest[32]);

/*
 * Check a record against the request it answers (CVE-2015-6563): PIL_OK when
 * every field is possible and, of an account, allowed; else MAPPER_RECORD.
 */
enum pil_reason	pil_map_record_check(const struct pil_map_record *,
		    size_t received, const struct pil_map_request *);

/* An id that no payload may have, whatever the configuration says. */
int		pil_is_special(uint32_t id);

#endif
