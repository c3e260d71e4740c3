/*
 * The one verifier: is this proxy chain genuine, and who is it?
 *
 * Chain building and signatures are OpenSSL's; RFC 3820 rules, CRLs,
 * signing_policy, namespaces and VOMS attributes (RFC 5755 as VOMS servers
 * write it) are checked on top. One input gives one answer: an identity or
 * one reason code.
 * Nothing here reads the environment, the user database or openssl.cnf.
 */
#ifndef PILOTAGE_VERIFY_H
#define PILOTAGE_VERIFY_H

#include <stddef.h>
#include <stdint.h>

#include "pilotage/reason.h"

#define PIL_DN_SIZE	1024	/* slash form, with its NUL */
#define PIL_NAME_SIZE	256	/* a VO name, an FQAN, with its NUL */
#define PIL_FQAN_MAX	256
#define PIL_DETAIL_SIZE	256
#define PIL_INPUT_MAX	(256 * 1024)	/* bytes of PEM accepted */
#define PIL_DEPTH_MAX	10	/* proxies in a chain */

/* pil_identity.flags */
#define PIL_F_PROXY	0x01u	/* the leaf is a proxy, not an end entity */
#define PIL_F_LIMITED	0x02u	/* some proxy of the chain is limited */
#define PIL_F_KEY	0x04u	/* the input holds the leaf's private key */
#define PIL_F_VOMS	0x08u	/* verified VOMS attributes are present */

/* pil_verify_options.policy */
#define PIL_P_REQUIRE_CRL	0x01u	/* a CA without CRL: CRL_MISSING */
#define PIL_P_REQUIRE_KEY	0x02u	/* no or wrong private key is an error */
#define PIL_P_REQUIRE_PROXY	0x04u	/* a bare certificate: NOT_A_PROXY */
#define PIL_P_REFUSE_LIMITED	0x08u	/* PROXY_LIMITED */
#define PIL_P_NO_SIGNING_POLICY	0x10u	/* any name: neither it nor namespaces */
#define PIL_P_ACCEPT_OLD	0x20u	/* GT2 proxies; else PROXY_LEGACY */

struct pil_verify_options {
	const char	*ca_dir;	/* hashed: <hash>.0 .r0 .signing_policy */
	const char	*voms_dir;	/* <vo>/<host>.lsc; NULL or a missing one: no VO is known */
	const char	*host;		/* this host's name, for AC targets; NULL: none */
	int64_t		 at;		/* Unix seconds; 0: now */
	int32_t		 skew;		/* clock skew allowed, seconds; <0: 300 */
	int64_t		 max_voms_seconds; /* longest AC lifetime; 0: 8 days */
	int64_t		 max_proxy_seconds; /* longest life of a proxy; 0: any */
	uint32_t	 policy;	/* PIL_P_* */
};

/*
 * The answer. Fixed size, no pointers, every string NUL-terminated printable
 * ASCII: it is also the body of the record that pilotage-verify writes. When
 * reason is not PIL_OK only reason and detail mean anything, the rest is zero.
 */
struct pil_identity {
	int32_t		 reason;
	uint32_t	 flags;
	uint32_t	 depth;		/* number of proxies in the chain */
	uint32_t	 fqan_count;
	int64_t		 not_before;	/* latest of the chain */
	int64_t		 not_after;	/* earliest of the chain, CAs included */
	int64_t		 voms_not_after; /* earliest of the ACs; 0: none */
	uint8_t		 leaf_key[32];	/* SHA-256 of the leaf's SubjectPublicKeyInfo */
	uint8_t		 eec[32];	/* SHA-256 of the end-entity certificate */
	char		 dn[PIL_DN_SIZE];	/* subject of the end entity */
	char		 issuer[PIL_DN_SIZE];	/* its issuer */
	char		 vo[PIL_NAME_SIZE];	/* of the first FQAN; "" : none */
	char		 detail[PIL_DETAIL_SIZE]; /* for the person who must act */
	char		 fqan[PIL_FQAN_MAX][PIL_NAME_SIZE]; /* normalised, in order */
};

/*
 * Verify a PEM file's bytes: leaf first, its private key anywhere, issuers
 * after it, trust anchors not needed. Returns who->reason.
 */
enum pil_reason	pil_verify_pem(const struct pil_verify_options *,
		    const void *pem, size_t len, struct pil_identity *who);

/*
 * The same for certificates that came as DER, concatenated leaf first, as
 * gRPC messages and TLS peers give them; there is no private key.
 */
enum pil_reason	pil_verify_der(const struct pil_verify_options *,
		    const void *der, size_t len, struct pil_identity *who);

/* The first line of a namespaces file that is no statement; 0: all are. */
unsigned	pil_namespaces_fault(const char *text, size_t len);

#endif
