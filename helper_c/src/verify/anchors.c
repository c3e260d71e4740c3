/*
 * Trust anchors: the certificates that the CA directory has under the hashes
 * of the names that the input speaks of, and nothing else. They are read into
 * the store before OpenSSL looks at the chain, so that it opens no file. One
 * verification has one store: the path of an attribute authority mostly ends
 * at the anchor of the chain that carries it, which is then there already.
 */
#include <stdio.h>
#include <string.h>

#include <openssl/crypto.h>
#include <openssl/x509.h>

#include "verify/core.h"

#define FILE_CAP	((size_t)256 * 1024)
#define PER_HASH	10	/* <hash>.0 to .9 */
#define NAMES_MAX	64	/* issuers looked up for one chain */

struct search {
	struct pil_verify	*v;
	STACK_OF(X509)		*found;	/* candidates of one name */
	int			 known;	/* names looked up before this search */
};

static enum pil_reason
unusable(struct pil_verify *v, const char *file)
{
	return pil_deny(v, PIL_CA_DIRECTORY_UNUSABLE,
	    "%s in the directory of trusted certificates cannot be used", file);
}

/* The certificates of one file whose subject is the name asked for. */
static enum pil_reason
scan(struct search *s, const char *file, const unsigned char *text, size_t len,
    const X509_NAME *name)
{
	struct pil_pem pem = { (const char *)text, (const char *)text + len };
	struct pil_block block;
	size_t used;
	int more;

	while ((more = pil_pem_next(&pem, &block)) > 0) {
		X509 *x = NULL;
		int wanted = strcmp(block.label, "CERTIFICATE") == 0;

		if (wanted)
			x = pil_certificate(block.der, block.len, &used);
		OPENSSL_free(block.der);
		if (!wanted)
			continue;
		if (x == NULL)
			return unusable(s->v, file);
		if (X509_NAME_cmp(X509_get_subject_name(x), name) != 0) {
			X509_free(x);
			continue;
		}
		if (sk_X509_push(s->found, x) <= 0) {
			X509_free(x);
			return pil_deny(s->v, PIL_VERIFY_INTERNAL,
			    "out of memory");
		}
	}
	return more < 0 ? unusable(s->v, file) : PIL_OK;
}

static enum pil_reason
read_files(struct search *s, const X509_NAME *name)
{
	char suffix[8], file[32];
	unsigned char *text;
	enum pil_reason reason;
	size_t len;
	int i, got;

	for (i = 0; i < PER_HASH; i++) {
		(void)snprintf(suffix, sizeof(suffix), ".%d", i);
		if (!pil_hashed_name(name, suffix, file))
			return pil_deny(s->v, PIL_VERIFY_INTERNAL,
			    "a name could not be hashed");
		got = pil_read_file(&s->v->dirs, s->v->dirs.ca, file, 0,
		    FILE_CAP, &text, &len);
		if (got == 0)
			return PIL_OK;
		if (got < 0)
			return unusable(s->v, file);
		reason = scan(s, file, text, len, name);
		OPENSSL_free(text);
		if (reason != PIL_OK)
			return reason;
	}
	return PIL_OK;
}

static int
valid_now(const struct pil_verify *v, const X509 *x)
{
	int64_t from, until;

	return pil_seconds(X509_get0_notBefore(x), &from) &&
	    pil_seconds(X509_get0_notAfter(x), &until) &&
	    pil_begun(v, from) && !pil_overdue(v, until);
}

/*
 * A CA that was renewed under its name stands twice in the directory. OpenSSL
 * is told not to look at times (they are ours, with the skew), so the old one
 * is left out here when a valid one is there.
 */
static enum pil_reason
keep(struct search *s)
{
	int i, n = sk_X509_num(s->found), valid = 0;

	for (i = 0; i < n; i++)
		valid += valid_now(s->v, sk_X509_value(s->found, i));
	for (i = 0; i < n; i++) {
		X509 *x = sk_X509_value(s->found, i);

		if (valid > 0 && !valid_now(s->v, x))
			continue;
		if (X509_STORE_add_cert(s->v->store, x) != 1)
			return pil_deny(s->v, PIL_VERIFY_INTERNAL,
			    "out of memory");
	}
	return PIL_OK;
}

/*
 * 1: the name is new and noted; 0: it was looked up before, as happens when
 * authorities have signed each other; else the reason.
 */
static int
is_new(struct search *s, const X509_NAME *name, enum pil_reason *reason)
{
	int i, n = sk_X509_NAME_num(s->v->names);
	X509_NAME *copy;

	*reason = PIL_OK;
	for (i = 0; i < n; i++)
		if (X509_NAME_cmp(sk_X509_NAME_value(s->v->names, i), name) == 0)
			return 0;
	if (n - s->known >= NAMES_MAX) {
		*reason = pil_deny(s->v, PIL_CHAIN_TOO_DEEP,
		    "more than %d issuers would have to be looked up",
		    NAMES_MAX);
		return 0;
	}
	copy = X509_NAME_dup(name);
	if (copy == NULL || sk_X509_NAME_push(s->v->names, copy) <= 0) {
		X509_NAME_free(copy);
		*reason = pil_deny(s->v, PIL_VERIFY_INTERNAL, "out of memory");
		return 0;
	}
	return 1;
}

/* Load the certificates of a name, then those of their issuers. */
static enum pil_reason
load(struct search *s, const X509_NAME *name)
{
	STACK_OF(X509) *outer = s->found;
	enum pil_reason reason;
	int i;

	if (!is_new(s, name, &reason))
		return reason;
	if ((s->found = sk_X509_new_null()) == NULL)
		reason = pil_deny(s->v, PIL_VERIFY_INTERNAL, "out of memory");
	if (reason == PIL_OK)
		reason = read_files(s, name);
	if (reason == PIL_OK)
		reason = keep(s);
	for (i = 0; reason == PIL_OK && i < sk_X509_num(s->found); i++)
		reason = load(s,
		    X509_get_issuer_name(sk_X509_value(s->found, i)));
	sk_X509_pop_free(s->found, X509_free);
	s->found = outer;
	return reason;
}

/* The anchors of these certificates' issuers, into the store. */
enum pil_reason
pil_load_anchors(struct pil_verify *v, STACK_OF(X509) *certs)
{
	struct search s = { v, NULL, 0 };
	enum pil_reason reason = PIL_OK;
	int i;

	if (v->store == NULL)
		v->store = X509_STORE_new();
	if (v->names == NULL)
		v->names = sk_X509_NAME_new_null();
	if (v->store == NULL || v->names == NULL)
		return pil_deny(v, PIL_VERIFY_INTERNAL, "out of memory");
	s.known = sk_X509_NAME_num(v->names);
	for (i = 0; reason == PIL_OK && i < sk_X509_num(certs); i++)
		reason = load(&s,
		    X509_get_issuer_name(sk_X509_value(certs, i)));
	return reason;
}
