/*
 * Revocation: each certificate of the chain that a CA issued is looked up in
 * that CA's lists in the directory. A list that is there and stale is an
 * error; none at all is one by policy. Lists are read once for a verification:
 * mostly the CA of the owner is that of the attribute authority.
 */
#include <stdio.h>
#include <string.h>

#include <openssl/crypto.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include "verify/core.h"

#define FILE_CAP	((size_t)16 * 1024 * 1024)
#define PER_HASH	10	/* <hash>.r0 to .r9 */
#define KEEP_BYTES	((size_t)1024 * 1024)	/* bigger ones are read anew */

/* The genuine lists of one CA, for its next certificate. */
struct pil_lists {
	struct pil_lists	*next;
	X509			*issuer;
	STACK_OF(X509_CRL)	*genuine;
	int			 invalid;	/* there were others, too */
	size_t			 bytes;
};

/* What the lists of one CA say about one certificate. */
struct verdict {
	struct pil_verify	*v;
	X509			*x;
	struct pil_lists	*lists;
	int			 current;
	int			 stale;
	int			 invalid;
};

static X509_CRL *
decode(const struct pil_block *block)
{
	const unsigned char *at = block->der;
	X509_CRL *crl = X509_CRL_new_ex(pil_library(), NULL);

	if (crl == NULL || block->len > FILE_CAP)
		return NULL;
	if (d2i_X509_CRL(&crl, &at, (long)block->len) == NULL)
		return NULL;
	if (at != block->der + block->len) {
		X509_CRL_free(crl);
		return NULL;
	}
	return crl;
}

/*
 * Whether the list speaks about certificates of this kind for all reasons.
 * Indirect and partial lists (RFC 5280, 5.2.5) are not understood: -1.
 */
static int
in_scope(X509_CRL *crl, X509 *x)
{
	ISSUING_DIST_POINT *idp;
	int critical, ca = X509_check_ca(x) != 0, scope = 1;

	if (X509_CRL_get_ext_by_NID(crl, NID_delta_crl, -1) >= 0)
		return -1;
	idp = X509_CRL_get_ext_d2i(crl, NID_issuing_distribution_point,
	    &critical, NULL);
	if (idp == NULL)
		return critical == -1 ? 1 : -1;
	if (idp->indirectCRL > 0 || idp->onlysomereasons != NULL ||
	    idp->onlyattr > 0)
		scope = -1;
	else if ((idp->onlyuser > 0 && ca) || (idp->onlyCA > 0 && !ca))
		scope = 0;
	ISSUING_DIST_POINT_free(idp);
	return scope;
}

static int
understood(X509_CRL *crl)
{
	int i;

	for (i = 0; i < X509_CRL_get_ext_count(crl); i++) {
		X509_EXTENSION *ext = X509_CRL_get_ext(crl, i);

		if (X509_EXTENSION_get_critical(ext) == 1 && OBJ_obj2nid(
		    X509_EXTENSION_get_object(ext)) !=
		    NID_issuing_distribution_point)
			return 0;
	}
	return 1;
}

static int
genuine(X509_CRL *crl, X509 *issuer)
{
	uint32_t usage = X509_get_key_usage(issuer);
	int digest = NID_undef;

	if (usage != UINT32_MAX && (usage & KU_CRL_SIGN) == 0)
		return 0;
	if (OBJ_find_sigid_algs(X509_CRL_get_signature_nid(crl), &digest,
	    NULL) != 1)
		return 0;
	if (digest != NID_sha256 && digest != NID_sha384 &&
	    digest != NID_sha512)
		return 0;
	return X509_CRL_verify(crl, X509_get0_pubkey(issuer)) == 1;
}

static int
is_current(const struct pil_verify *v, X509_CRL *crl)
{
	int64_t from, until;

	/* RFC 5280 demands nextUpdate; without it no list is ever stale. */
	if (!pil_seconds(X509_CRL_get0_lastUpdate(crl), &from) ||
	    !pil_seconds(X509_CRL_get0_nextUpdate(crl), &until))
		return -1;
	if (!pil_begun(v, from))
		return -1;
	return !pil_overdue(v, until);
}

static enum pil_reason
judge(struct verdict *d, X509_CRL *crl)
{
	X509_REVOKED *entry = NULL;
	char show[PIL_SHOW_SIZE];
	int scope, current;

	if ((scope = in_scope(crl, d->x)) < 0 ||
	    (current = is_current(d->v, crl)) < 0) {
		d->invalid = 1;
		return PIL_OK;
	}
	if (scope == 0)
		return PIL_OK;
	/* 2 is "removed from the list" and stands in delta lists only. */
	if (X509_CRL_get0_by_cert(crl, &entry, d->x) != 0) {
		pil_name_show(X509_get_subject_name(d->x), show);
		return pil_deny(d->v, PIL_CERTIFICATE_REVOKED,
		    "%s is revoked", show);
	}
	if (current)
		d->current = 1;
	else
		d->stale = 1;
	return PIL_OK;
}

/* Judge a list that was just read, and keep it; takes it. */
static enum pil_reason
take(struct verdict *d, X509_CRL *crl)
{
	struct pil_lists *lists = d->lists;
	enum pil_reason reason = PIL_OK;

	if (crl != NULL && X509_NAME_cmp(X509_CRL_get_issuer(crl),
	    X509_get_subject_name(lists->issuer)) != 0)
		goto done;	/* another CA of the same hash */
	if (crl == NULL || !understood(crl) || !genuine(crl, lists->issuer)) {
		lists->invalid = 1;
		goto done;
	}
	reason = judge(d, crl);
	if (lists->bytes <= KEEP_BYTES &&
	    sk_X509_CRL_push(lists->genuine, crl) > 0)
		return reason;
	/* Not all are kept, so that none may be used again. */
	lists->bytes = KEEP_BYTES + 1;
done:
	X509_CRL_free(crl);
	return reason;
}

static enum pil_reason
scan(struct verdict *d, const unsigned char *text, size_t len)
{
	struct pil_pem pem = { (const char *)text, (const char *)text + len };
	enum pil_reason reason = PIL_OK;
	struct pil_block block;
	int more;

	while (reason == PIL_OK && (more = pil_pem_next(&pem, &block)) != 0) {
		if (more < 0) {
			d->lists->invalid = 1;
			break;
		}
		reason = take(d, strcmp(block.label, "X509 CRL") == 0 ?
		    decode(&block) : NULL);
		OPENSSL_free(block.der);
	}
	return reason;
}

static enum pil_reason
read_lists(struct verdict *d)
{
	const X509_NAME *name = X509_get_subject_name(d->lists->issuer);
	enum pil_reason reason;
	char suffix[8], file[32];
	unsigned char *text;
	size_t len;
	int i, got;

	for (i = 0; i < PER_HASH; i++) {
		(void)snprintf(suffix, sizeof(suffix), ".r%d", i);
		if (!pil_hashed_name(name, suffix, file))
			return pil_deny(d->v, PIL_VERIFY_INTERNAL,
			    "a name could not be hashed");
		got = pil_read_file(&d->v->dirs, d->v->dirs.ca, file, 0,
		    FILE_CAP, &text, &len);
		if (got == 0)
			return PIL_OK;
		if (got < 0)
			return pil_deny(d->v, PIL_CA_DIRECTORY_UNUSABLE,
			    "%s in the directory of trusted certificates "
			    "cannot be used", file);
		d->lists->bytes += len;
		reason = scan(d, text, len);
		OPENSSL_free(text);
		if (reason != PIL_OK)
			return reason;
	}
	return PIL_OK;
}

static void
free_lists(struct pil_lists *lists)
{
	if (lists == NULL)
		return;
	sk_X509_CRL_pop_free(lists->genuine, X509_CRL_free);
	X509_free(lists->issuer);
	OPENSSL_free(lists);
}

void
pil_free_lists(struct pil_verify *v)
{
	struct pil_lists *next;

	for (; v->lists != NULL; v->lists = next) {
		next = v->lists->next;
		free_lists(v->lists);
	}
}

static struct pil_lists *
new_lists(X509 *issuer)
{
	struct pil_lists *lists = OPENSSL_zalloc(sizeof(*lists));

	if (lists == NULL)
		return NULL;
	lists->genuine = sk_X509_CRL_new_null();
	if (lists->genuine != NULL && X509_up_ref(issuer) == 1) {
		lists->issuer = issuer;
		return lists;
	}
	free_lists(lists);
	return NULL;
}

static enum pil_reason
read_first(struct verdict *d, X509 *issuer)
{
	enum pil_reason reason;

	if ((d->lists = new_lists(issuer)) == NULL)
		return pil_deny(d->v, PIL_VERIFY_INTERNAL, "out of memory");
	reason = read_lists(d);
	d->invalid |= d->lists->invalid;
	/* Big ones are not kept: the verifier has so much memory and no more. */
	if (reason != PIL_OK || d->lists->bytes > KEEP_BYTES) {
		free_lists(d->lists);
		return reason;
	}
	d->lists->next = d->v->lists;
	d->v->lists = d->lists;
	return PIL_OK;
}

/* What the CA's lists say; those of this very certificate may be there. */
static enum pil_reason
look_up(struct verdict *d, X509 *issuer)
{
	enum pil_reason reason = PIL_OK;
	int i;

	for (d->lists = d->v->lists; d->lists != NULL;
	    d->lists = d->lists->next)
		if (X509_cmp(d->lists->issuer, issuer) == 0)
			break;
	if (d->lists == NULL)
		return read_first(d, issuer);
	d->invalid = d->lists->invalid;
	for (i = 0; reason == PIL_OK &&
	    i < sk_X509_CRL_num(d->lists->genuine); i++)
		reason = judge(d, sk_X509_CRL_value(d->lists->genuine, i));
	return reason;
}

static enum pil_reason
check_one(struct pil_verify *v, X509 *x, X509 *issuer)
{
	struct verdict d = { v, x, NULL, 0, 0, 0 };
	enum pil_reason reason;
	char show[PIL_SHOW_SIZE];

	if ((reason = look_up(&d, issuer)) != PIL_OK || d.current)
		return reason;
	pil_name_show(X509_get_subject_name(issuer), show);
	if (d.stale)
		return pil_deny(v, PIL_CRL_EXPIRED,
		    "the revocation list of %s is out of date", show);
	if (d.invalid)
		return pil_deny(v, PIL_CRL_INVALID,
		    "the revocation list of %s is not a genuine one", show);
	if (v->opt->policy & PIL_P_REQUIRE_CRL)
		return pil_deny(v, PIL_CRL_MISSING,
		    "there is no revocation list of %s", show);
	return PIL_OK;
}

/* From the end entity at `first` up; a root does not revoke itself. */
enum pil_reason
pil_check_revocation(struct pil_verify *v, STACK_OF(X509) *chain, int first)
{
	enum pil_reason reason;
	int i;

	for (i = first; i + 1 < sk_X509_num(chain); i++) {
		reason = check_one(v, sk_X509_value(chain, i),
		    sk_X509_value(chain, i + 1));
		if (reason != PIL_OK)
			return reason;
	}
	return PIL_OK;
}
