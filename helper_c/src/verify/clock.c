/*
 * The time of a verification and everything that is compared with it; times as
 * Unix seconds, without the C library's time zone files; and the validity of
 * every certificate of a chain with the allowed clock skew.
 *
 * Each comparison narrows the seconds in which the whole answer is the same,
 * so that a remembered one is used in those only. Nobody else can see the time.
 */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <openssl/asn1.h>
#include <openssl/x509.h>

#include "verify/core.h"

struct pil_moment {
	int64_t	 now;
	int64_t	 skew;
	int64_t	 from;		/* what was asked has the same answer at any */
	int64_t	 until;		/* time in [from, until) */
};

#define LATEST	(INT64_MAX / 2)	/* so that no sum overflows */

/* Unix seconds; 0 when there is no clock. */
int64_t
pil_clock(void)
{
	struct timespec now;

	if (clock_gettime(CLOCK_REALTIME, &now) != 0)
		return 0;
	return now.tv_sec;
}

/* NULL without memory or without a time that can be reckoned with. */
struct pil_moment *
pil_moment_new(const struct pil_verify_options *opt, int64_t skew)
{
	int64_t now = opt->at != 0 ? opt->at : pil_clock();
	struct pil_moment *m;

	if (now <= 0 || now > LATEST || (m = malloc(sizeof(*m))) == NULL)
		return NULL;
	m->now = now;
	m->skew = skew;
	m->from = 1;
	m->until = LATEST + 1;
	return m;
}

void
pil_moment_free(struct pil_moment *m)
{
	free(m);
}

void
pil_moment_bounds(const struct pil_moment *m, int64_t *from, int64_t *until)
{
	*from = m->from;
	*until = m->until;
}

/* The only comparison with the time. */
static int
reached(struct pil_moment *m, int64_t boundary)
{
	if (m->now >= boundary) {
		if (boundary > m->from)
			m->from = boundary;
		return 1;
	}
	if (boundary < m->until)
		m->until = boundary;
	return 0;
}

/* What is valid from `t` on is valid, for a clock that may be slow. */
int
pil_begun(const struct pil_verify *v, int64_t t)
{
	return reached(v->moment, t - v->moment->skew);
}

/* What is valid before `t` is valid no more, even for a fast clock. */
int
pil_ended(const struct pil_verify *v, int64_t t)
{
	return reached(v->moment, t + v->moment->skew);
}

/* The same for what is valid in the second `t`, too. */
int
pil_overdue(const struct pil_verify *v, int64_t t)
{
	return reached(v->moment, t + v->moment->skew + 1);
}

/* Seconds from now to `t`, for a sentence that is true in this second only. */
long long
pil_away(const struct pil_verify *v, int64_t t)
{
	(void)reached(v->moment, v->moment->now);
	(void)reached(v->moment, v->moment->now + 1);
	return (long long)(t - v->moment->now);
}

/* Days since 1970-01-01 of a date in the Gregorian calendar. */
static int64_t
days(int64_t year, int64_t month, int64_t day)
{
	int64_t era, of_era, of_year;

	if (month <= 2)
		year--;
	era = (year >= 0 ? year : year - 399) / 400;
	of_era = year - era * 400;
	of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
	return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 +
	    of_year - 719468;
}

int
pil_seconds(const ASN1_TIME *t, int64_t *out)
{
	struct tm tm;

	if (t == NULL || ASN1_TIME_check(t) != 1)
		return 0;
	memset(&tm, 0, sizeof(tm));
	if (ASN1_TIME_to_tm(t, &tm) != 1)
		return 0;
	*out = days((int64_t)tm.tm_year + 1900, (int64_t)tm.tm_mon + 1,
	    tm.tm_mday) * 86400 + (int64_t)tm.tm_hour * 3600 +
	    (int64_t)tm.tm_min * 60 + tm.tm_sec;
	return 1;
}

/* Exactly YYYYMMDDHHMMSSZ, the one form VOMS servers write. */
int
pil_seconds_strict(const ASN1_TIME *t, int64_t *out)
{
	const unsigned char *p;
	int i;

	if (t == NULL || ASN1_STRING_type(t) != V_ASN1_GENERALIZEDTIME ||
	    ASN1_STRING_length(t) != 15)
		return 0;
	p = ASN1_STRING_get0_data(t);
	for (i = 0; i < 14; i++)
		if (p[i] < '0' || p[i] > '9')
			return 0;
	return p[14] == 'Z' && pil_seconds(t, out);
}

static enum pil_reason
check_one(struct pil_verify *v, X509 *x, int is_proxy)
{
	struct pil_identity *who = v->who;
	char show[PIL_SHOW_SIZE];
	int64_t from, until;

	pil_name_show(X509_get_subject_name(x), show);
	if (!pil_seconds(X509_get0_notBefore(x), &from) ||
	    !pil_seconds(X509_get0_notAfter(x), &until) || until <= from)
		return pil_deny(v, PIL_PROXY_MALFORMED,
		    "the validity of %s is not a pair of times", show);
	if (!pil_begun(v, from))
		return pil_deny(v, PIL_CERTIFICATE_NOT_YET_VALID,
		    "%s begins in %lld seconds", show, pil_away(v, from));
	if (pil_ended(v, until))
		return pil_deny(v, is_proxy ? PIL_PROXY_EXPIRED :
		    PIL_CERTIFICATE_EXPIRED, "%s ended %lld seconds ago", show,
		    -pil_away(v, until));
	if (from > who->not_before)
		who->not_before = from;
	if (who->not_after == 0 || until < who->not_after)
		who->not_after = until;
	return PIL_OK;
}

/* The first `proxies` certificates of the chain are proxies. */
enum pil_reason
pil_check_times(struct pil_verify *v, STACK_OF(X509) *chain, int proxies)
{
	enum pil_reason reason;
	int i;

	for (i = 0; i < sk_X509_num(chain); i++) {
		reason = check_one(v, sk_X509_value(chain, i), i < proxies);
		if (reason != PIL_OK)
			return reason;
	}
	/* Each may be within the skew, and yet no moment fits them all. */
	if (v->who->not_before >= v->who->not_after)
		return pil_deny(v, PIL_CERTIFICATE_EXPIRED,
		    "there is no time at which the whole chain is valid");
	return PIL_OK;
}
