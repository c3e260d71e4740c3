/*
 * VOMS attribute certificates: RFC 5755 as VOMS servers write it, and only
 * the fields that they write (shared reference voms.md, 1.2).
 */
#ifndef PILOTAGE_VERIFY_VOMS_H
#define PILOTAGE_VERIFY_VOMS_H

#include <openssl/asn1.h>
#include <openssl/safestack.h>
#include <openssl/x509v3.h>

#include "verify/core.h"

#define PIL_VOMS_BYTES	((size_t)64 * 1024)
#define PIL_VOMS_ACS	8
#define PIL_VOMS_CERTS	5

DEFINE_STACK_OF(ASN1_OCTET_STRING)

typedef struct {
	GENERAL_NAMES	*issuer;
	ASN1_INTEGER	*serial;
} PIL_AC_SERIAL;

typedef struct {
	PIL_AC_SERIAL	*base;
} PIL_AC_HOLDER;

typedef struct {
	GENERAL_NAMES	*name;
} PIL_AC_ISSUER;

typedef struct {
	ASN1_GENERALIZEDTIME	*from;
	ASN1_GENERALIZEDTIME	*until;
} PIL_AC_VALIDITY;

typedef struct {
	GENERAL_NAMES			*authority;
	STACK_OF(ASN1_OCTET_STRING)	*values;
} PIL_AC_SYNTAX;
DEFINE_STACK_OF(PIL_AC_SYNTAX)

typedef struct {
	ASN1_OBJECT			*type;
	STACK_OF(PIL_AC_SYNTAX)		*values;
} PIL_AC_ATTRIBUTE;
DEFINE_STACK_OF(PIL_AC_ATTRIBUTE)

typedef struct {
	ASN1_INTEGER			*version;
	PIL_AC_HOLDER			*holder;
	PIL_AC_ISSUER			*issuer;
	X509_ALGOR			*algorithm;
	ASN1_INTEGER			*serial;
	PIL_AC_VALIDITY			*validity;
	STACK_OF(PIL_AC_ATTRIBUTE)	*attributes;
	STACK_OF(X509_EXTENSION)	*extensions;
} PIL_AC_INFO;

typedef struct {
	PIL_AC_INFO	*info;
	X509_ALGOR	*algorithm;
	ASN1_BIT_STRING	*signature;
} PIL_AC;
DEFINE_STACK_OF(PIL_AC)

typedef struct {
	STACK_OF(PIL_AC)	*acs;
} PIL_AC_LIST;

/* What one attribute certificate says, while it is being checked. */
struct pil_ac {
	PIL_AC			*ac;
	PIL_AC_SYNTAX		*syntax;	/* VO, server and FQANs */
	char			 vo[PIL_NAME_SIZE];
	char			 server[PIL_NAME_SIZE];
	int			 vo_dir;	/* -1: not open */
	STACK_OF(X509)		*certs;		/* carried; the AA first */
};

/* voms_asn1.c: NULL unless the bytes are exactly the DER of the type. */
PIL_AC_LIST	*pil_ac_list(const ASN1_OCTET_STRING *);
void		 pil_ac_list_free(PIL_AC_LIST *);
STACK_OF(X509)	*pil_ac_certs(const ASN1_OCTET_STRING *, int *too_many);
int		 pil_ac_target(const ASN1_OCTET_STRING *, const char *host);
int		 pil_ac_signed(const PIL_AC *, EVP_PKEY *);

/* voms_text.c */
int		 pil_voms_uri(const unsigned char *, size_t,
		    char vo[PIL_NAME_SIZE], char server[PIL_NAME_SIZE]);
int		 pil_voms_fqan(const unsigned char *, size_t, const char *vo,
		    char out[PIL_NAME_SIZE]);

/* voms_ext.c */
enum pil_reason	 pil_check_ac_extensions(struct pil_verify *,
		    struct pil_ac *);

/* lsc.c */
enum pil_reason	 pil_check_lsc(struct pil_verify *, struct pil_ac *);
int		 pil_lsc_match(const char *, size_t, const char *const *,
		    size_t);

/* authority.c */
enum pil_reason	 pil_check_authority(struct pil_verify *, struct pil_ac *);

#endif
