/*
 * One verification, from bytes to an identity or one reason.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/x509.h>

#include "verify/core.h"

/* Forget what was found and keep the reason and a printable sentence. */
enum pil_reason
pil_deny(struct pil_verify *v, enum pil_reason reason, const char *format, ...)
{
	struct pil_identity *who = v->who;
	va_list arguments;
	size_t i;

	memset(who, 0, sizeof(*who));
	who->reason = (int32_t)reason;
	va_start(arguments, format);
	(void)vsnprintf(who->detail, sizeof(who->detail), format, arguments);
	va_end(arguments);
	for (i = 0; who->detail[i] != '\0'; i++)
		if (who->detail[i] < ' ' || who->detail[i] > '~')
			who->detail[i] = '?';
	return reason;
}

/*
 * Open the directories. With `strict`, as root and the helper do, they and
 * their files must be root's and writable by nobody else. A VOMS directory
 * that is not there is none: no VO is known.
 */
enum pil_reason
pil_open_dirs(const struct pil_verify_options *opt, int strict,
    struct pil_watch *watch, struct pil_dirs *dirs)
{
	dirs->strict = strict;
	dirs->watch = watch;
	dirs->voms = -1;
	dirs->ca = opt->ca_dir == NULL ? -1 :
	    pil_open_dir(dirs, AT_FDCWD, opt->ca_dir, 0);
	if (dirs->ca == -1)
		return PIL_CA_DIRECTORY_UNUSABLE;
	if (opt->voms_dir == NULL)
		return PIL_OK;
	dirs->voms = pil_open_dir(dirs, AT_FDCWD, opt->voms_dir, 0);
	if (dirs->voms == -1 && errno != ENOENT) {
		pil_close_dirs(dirs);
		return PIL_VOMS_LSC_UNUSABLE;
	}
	return PIL_OK;
}

void
pil_close_dirs(struct pil_dirs *dirs)
{
	if (dirs->ca != -1)
		(void)close(dirs->ca);
	if (dirs->voms != -1)
		(void)close(dirs->voms);
	dirs->ca = dirs->voms = -1;
}

static int
digest(const unsigned char *data, int len, uint8_t out[32])
{
	EVP_MD *sha256 = EVP_MD_fetch(pil_library(), "SHA256", NULL);
	int good;

	good = sha256 != NULL && len > 0 && EVP_Digest(data, (size_t)len, out,
	    NULL, sha256, NULL) == 1;
	EVP_MD_free(sha256);
	return good;
}

/* Who it is, by the end entity; which key, by the leaf. */
static enum pil_reason
describe(struct pil_verify *v)
{
	struct pil_identity *who = v->who;
	X509 *eec = sk_X509_value(v->chain, v->eec);
	X509 *leaf = sk_X509_value(v->chain, 0);
	unsigned char *der = NULL;
	int len, good;

	if (!pil_name_slash(X509_get_subject_name(eec), who->dn,
	    sizeof(who->dn)) || !pil_name_slash(X509_get_issuer_name(eec),
	    who->issuer, sizeof(who->issuer)))
		return pil_deny(v, PIL_NAME_UNSUPPORTED,
		    "the end entity's name or its issuer's could be read as "
		    "another, or is too long");
	len = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(leaf), &der);
	good = digest(der, len, who->leaf_key);
	OPENSSL_free(der);
	der = NULL;
	len = i2d_X509(eec, &der);
	good = digest(der, len, who->eec) && good;
	OPENSSL_free(der);
	if (!good)
		return pil_deny(v, PIL_VERIFY_INTERNAL,
		    "a digest could not be computed");
	return PIL_OK;
}

static enum pil_reason
check_policy(struct pil_verify *v)
{
	uint32_t policy = v->opt->policy, flags = v->who->flags;
	int64_t life = v->who->not_after - v->who->not_before;

	/* Proxies begin some minutes before they are made, for slow clocks. */
	if ((flags & PIL_F_PROXY) && v->opt->max_proxy_seconds > 0 &&
	    life > v->opt->max_proxy_seconds + v->skew)
		return pil_deny(v, PIL_LIFETIME_TOO_LONG,
		    "the proxy lives for %lld seconds, and %lld are allowed",
		    (long long)life, (long long)v->opt->max_proxy_seconds);
	if ((policy & PIL_P_REQUIRE_PROXY) && (flags & PIL_F_PROXY) == 0)
		return pil_deny(v, PIL_NOT_A_PROXY,
		    "the first certificate is not a proxy");
	if ((policy & PIL_P_REFUSE_LIMITED) && (flags & PIL_F_LIMITED))
		return pil_deny(v, PIL_PROXY_LIMITED,
		    "the proxy is limited, and the policy refuses those");
	return PIL_OK;
}

static enum pil_reason
decide(struct pil_verify *v, int is_pem, const void *data, size_t len)
{
	enum pil_reason reason;

	reason = is_pem ? pil_read_pem(v, data, len) :
	    pil_read_der(v, data, len);
	if (reason != PIL_OK)
		return reason;
	if ((reason = pil_check_proxies(v)) != PIL_OK ||
	    (reason = pil_is_old_chain(v) ? pil_build_old_chain(v) :
	    pil_build_chain(v, v->certs, PIL_USE_CLIENT, &v->chain)) != PIL_OK)
		return reason;
	if (v->eec + 1 >= sk_X509_num(v->chain))
		return pil_deny(v, PIL_CA_AS_END_ENTITY,
		    "a trust anchor was given as somebody's certificate");
	if ((reason = pil_check_times(v, v->chain, v->eec)) != PIL_OK ||
	    (reason = pil_check_revocation(v, v->chain, v->eec)) != PIL_OK ||
	    (reason = pil_check_signing(v, v->chain, v->eec)) != PIL_OK ||
	    (reason = describe(v)) != PIL_OK ||
	    (reason = check_policy(v)) != PIL_OK ||
	    (reason = pil_check_key(v)) != PIL_OK)
		return reason;
	return pil_check_voms(v);
}

/* Verify with directories that are open; the caller closes them. */
enum pil_reason
pil_verify_at(const struct pil_verify_options *opt,
    const struct pil_dirs *dirs, int is_pem, const void *data, size_t len,
    struct pil_identity *who)
{
	struct pil_verify v;
	enum pil_reason reason;

	memset(&v, 0, sizeof(v));
	memset(who, 0, sizeof(*who));
	v.opt = opt;
	v.who = who;
	v.dirs = *dirs;
	v.skew = opt->skew < 0 ? PIL_SKEW_DEFAULT : opt->skew;
	if (pil_library() == NULL)
		return pil_deny(&v, PIL_VERIFY_INTERNAL,
		    "OpenSSL could not be started");
	/* The host process has its own entries in OpenSSL's error queue. */
	(void)ERR_set_mark();
	v.certs = sk_X509_new_null();
	v.moment = pil_moment_new(opt, v.skew);
	if (v.certs == NULL || v.moment == NULL)
		reason = pil_deny(&v, PIL_VERIFY_INTERNAL,
		    "no memory or no clock");
	else
		reason = decide(&v, is_pem, data, len);
	if (v.moment != NULL && dirs->watch != NULL)
		pil_moment_bounds(v.moment, &dirs->watch->from,
		    &dirs->watch->until);
	pil_moment_free(v.moment);
	OPENSSL_clear_free(v.key.der, v.key.len);
	sk_X509_pop_free(v.chain, X509_free);
	sk_X509_pop_free(v.certs, X509_free);
	sk_X509_NAME_pop_free(v.names, X509_NAME_free);
	X509_STORE_free(v.store);
	pil_free_lists(&v);
	(void)ERR_pop_to_mark();
	return reason;
}

/* The public calls; `watch` is NULL or hears on what the answer rests. */
enum pil_reason
pil_verify_watched(const struct pil_verify_options *opt,
    struct pil_watch *watch, int is_pem, const void *data, size_t len,
    struct pil_identity *who)
{
	struct pil_verify v;
	struct pil_dirs dirs;
	enum pil_reason reason;

	reason = pil_open_dirs(opt, geteuid() == 0, watch, &dirs);
	if (reason != PIL_OK) {
		memset(&v, 0, sizeof(v));
		v.who = who;
		return pil_deny(&v, reason, "the directory %.200s is missing, "
		    "or others may write it",
		    reason == PIL_VOMS_LSC_UNUSABLE ? opt->voms_dir :
		    opt->ca_dir == NULL ? "(none)" : opt->ca_dir);
	}
	reason = pil_verify_at(opt, &dirs, is_pem, data, len, who);
	pil_close_dirs(&dirs);
	return reason;
}

enum pil_reason
pil_verify_pem(const struct pil_verify_options *opt, const void *pem,
    size_t len, struct pil_identity *who)
{
	return pil_verify_watched(opt, NULL, 1, pem, len, who);
}

enum pil_reason
pil_verify_der(const struct pil_verify_options *opt, const void *der,
    size_t len, struct pil_identity *who)
{
	return pil_verify_watched(opt, NULL, 0, der, len, who);
}
