/*
 * What the parts of the verifier share. Everything here is private to
 * libpilotage-core and pilotage-verify; the public face is pilotage/verify.h.
 *
 * Every check returns PIL_OK or one reason, and has then set the detail
 * sentence by pil_deny(). The first failure ends the verification.
 */
#ifndef PILOTAGE_VERIFY_CORE_H
#define PILOTAGE_VERIFY_CORE_H

#include <openssl/types.h>
#include <openssl/x509.h>

#include "pilotage/verify.h"

#define PIL_CERTS_MAX		32	/* certificates in one input */
#define PIL_SKEW_DEFAULT	300
#define PIL_VOMS_SECONDS	(8 * 86400)
#define PIL_SHOW_SIZE		160	/* a name as a detail sentence shows it */

/* The private key block of an input, still DER. */
struct pil_key {
	unsigned char	*der;
	size_t		 len;
	const char	*structure;	/* OpenSSL's name of the encoding */
	const char	*type;		/* "RSA", "EC" or NULL for PKCS#8 */
	int		 encrypted;
	int		 count;
};

/*
 * Somebody who wants to know on what an answer rests. `opened` hears of every
 * open, before anything is read: fd is -1 and errno set where it failed, and
 * errno must stay. From `from` on and before `until` no comparison with the
 * time has another result.
 */
struct pil_watch {
	void	(*opened)(struct pil_watch *, int dir, const char *name,
		    int flags, int fd);
	int64_t	 from;
	int64_t	 until;
};

/* Directories that stay open for one verification. */
struct pil_dirs {
	int			 ca;
	int			 voms;	/* -1: no VO is known */
	int			 strict; /* files must be root's and nobody
					  * else's to write */
	struct pil_watch	*watch;	/* NULL: nobody */
};

/* The time of a verification; only clock.c can look into it. */
struct pil_moment;

struct pil_verify {
	const struct pil_verify_options	*opt;
	struct pil_identity		*who;
	struct pil_dirs			 dirs;
	struct pil_moment		*moment;
	int64_t				 skew;
	STACK_OF(X509)			*certs;	/* the input, leaf first */
	STACK_OF(X509)			*chain;	/* verified, leaf to root */
	int				 eec;	/* index of the end entity */
	struct pil_key			 key;
	X509_STORE			*store;	/* trust anchors read so far */
	STACK_OF(X509_NAME)		*names;	/* of those looked up for it */
	struct pil_lists		*lists;	/* revocation lists read so far */
};

enum pil_use {
	PIL_USE_CLIENT,		/* a user's, pilot's or service's chain */
	PIL_USE_AUTHORITY,	/* the path of a VOMS attribute authority */
};

/* verify.c */
enum pil_reason	pil_deny(struct pil_verify *, enum pil_reason,
		    const char *, ...) __attribute__((format(printf, 3, 4)));
enum pil_reason	pil_open_dirs(const struct pil_verify_options *, int,
		    struct pil_watch *, struct pil_dirs *);
void		pil_close_dirs(struct pil_dirs *);
enum pil_reason	pil_verify_at(const struct pil_verify_options *,
		    const struct pil_dirs *, int, const void *, size_t,
		    struct pil_identity *);
enum pil_reason	pil_verify_watched(const struct pil_verify_options *,
		    struct pil_watch *, int, const void *, size_t,
		    struct pil_identity *);

/* library.c */
OSSL_LIB_CTX	*pil_library(void);
void		pil_library_alone(void);

/* provider.c */
int		pil_provide(OSSL_LIB_CTX *, OSSL_LIB_CTX *);

/* pem.c */
struct pil_pem {
	const char	*at;
	const char	*end;
};
struct pil_block {
	char		 label[32];
	unsigned char	*der;	/* caller frees with OPENSSL_clear_free */
	size_t		 len;
	int		 encrypted;
};
int		pil_pem_next(struct pil_pem *, struct pil_block *);

/* input.c */
X509		*pil_certificate(const unsigned char *, size_t, size_t *);
enum pil_reason	pil_read_pem(struct pil_verify *, const void *, size_t);
enum pil_reason	pil_read_der(struct pil_verify *, const void *, size_t);

/* name.c */
int		pil_name_slash(const X509_NAME *, char *, size_t);
void		pil_name_show(const X509_NAME *, char [PIL_SHOW_SIZE]);
int		pil_name_same(const X509_NAME *, const X509_NAME *);

/* clock.c */
int64_t			 pil_clock(void);
struct pil_moment	*pil_moment_new(const struct pil_verify_options *,
			    int64_t skew);
void			 pil_moment_free(struct pil_moment *);
void			 pil_moment_bounds(const struct pil_moment *,
			    int64_t *, int64_t *);
int			 pil_begun(const struct pil_verify *, int64_t);
int			 pil_ended(const struct pil_verify *, int64_t);
int			 pil_overdue(const struct pil_verify *, int64_t);
long long		 pil_away(const struct pil_verify *, int64_t);
int		pil_seconds(const ASN1_TIME *, int64_t *);
int		pil_seconds_strict(const ASN1_TIME *, int64_t *);
enum pil_reason	pil_check_times(struct pil_verify *, STACK_OF(X509) *, int);

/* files.c */
int		pil_open_dir(const struct pil_dirs *, int, const char *, int);
int		pil_read_file(const struct pil_dirs *, int, const char *, int,
		    size_t, unsigned char **, size_t *);
int		pil_hashed_name(const X509_NAME *, const char *, char [32]);

/* anchors.c */
enum pil_reason	pil_load_anchors(struct pil_verify *, STACK_OF(X509) *);

/* strength.c */
enum pil_reason	pil_weak_signature(struct pil_verify *, const char *);
enum pil_reason	pil_check_strength(struct pil_verify *, X509 *, int);
enum pil_reason	pil_check_key(struct pil_verify *);

/* chain.c */
enum pil_reason	pil_build_chain(struct pil_verify *, STACK_OF(X509) *,
		    enum pil_use, STACK_OF(X509) **);

/* openssl_error.c */
enum pil_reason	pil_openssl_reason(int);

/* proxy.c */
enum pil_reason	pil_check_proxies(struct pil_verify *);

/* old.c */
int		pil_is_old_chain(const struct pil_verify *);
enum pil_reason	pil_build_old_chain(struct pil_verify *);

/* crl.c */
void		pil_free_lists(struct pil_verify *);
enum pil_reason	pil_check_revocation(struct pil_verify *, STACK_OF(X509) *,
		    int);

/* signing.c */
enum pil_reason	pil_check_signing(struct pil_verify *, STACK_OF(X509) *, int);
enum pil_reason	pil_signing_allows(const char *, size_t, const char *,
		    const char *);
int		pil_name_spelling(const char *, char *, size_t);

/* namespaces.c */
enum pil_said {
	PIL_SAID_NOTHING,		/* no statement is about the issuer */
	PIL_SAID_YES,
	PIL_SAID_NO,
	PIL_SAID_MALFORMED,
};
enum pil_said	pil_namespaces_say(const char *, size_t, const char *,
		    const char *, int, unsigned *);
enum pil_reason	pil_check_namespaces(struct pil_verify *, STACK_OF(X509) *,
		    int);

/* voms.c */
enum pil_reason	pil_check_voms(struct pil_verify *);

#endif
