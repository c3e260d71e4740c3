/*
 * signing_policy files (Globus EACL): which names a CA may sign.
 *
 *	access_id_CA  X509    '/C=XX/O=Grid/CN=CA'
 *	pos_rights    globus  CA:sign
 *	cond_subjects globus  '"/C=XX/O=Grid/CN=*" "/O=Other/CN=*"'
 *
 * A value stands in single or double quotes, the patterns of a value in the
 * other kind or in none. '*' stands for any text, also for a slash.
 */
#include <string.h>

#include <openssl/crypto.h>
#include <openssl/x509.h>

#include "verify/core.h"

#define FILE_CAP	((size_t)64 * 1024)
#define WORD_SIZE	4096

struct reader {
	const char	*at;
	const char	*end;
	const char	*subject;
	const char	*issuer;
	int		 ours;		/* the entry names the issuer */
	int		 may_sign;	/* it has the right CA:sign */
	int		 allowed;
};

/*
 * Old spellings of attribute types, as site files still have them, become
 * today's. 0 and no text when it does not fit.
 */
int
pil_name_spelling(const char *in, char *out, size_t size)
{
	static const struct {
		const char	*old, *now;
	} spellings[] = {
		{ "/Email=", "/emailAddress=" },
		{ "/E=", "/emailAddress=" },
		{ "/EMAILADDRESS=", "/emailAddress=" },
		{ "/USERID=", "/UID=" },
	};
	size_t used = 0, i, n;

	/* word() ends it. NOLINTNEXTLINE(clang-analyzer-core.*) */
	while (*in != '\0' && used + 32 < size) {
		for (i = 0; i < 4; i++) {
			n = strlen(spellings[i].old);
			if (strncmp(in, spellings[i].old, n) == 0)
				break;
		}
		if (i < 4) {
			in += n;
			n = strlen(spellings[i].now);
			memcpy(out + used, spellings[i].now, n);
			used += n;
		} else
			out[used++] = *in++;
	}
	/* What does not fit must not match by its beginning. */
	out[*in == '\0' ? used : 0] = '\0';
	return *in == '\0';
}

static int
matches(const char *pattern, const char *text)
{
	const char *star = NULL, *back = NULL;

	while (*text != '\0') {
		if (*pattern == '*') {
			star = pattern++;
			back = text;
		} else if (*pattern == *text) {
			pattern++;
			text++;
		} else if (star != NULL) {
			pattern = star + 1;
			text = ++back;
		} else
			return 0;
	}
	while (*pattern == '*')
		pattern++;
	return *pattern == '\0';
}

static int
blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r';
}

static void
skip_blanks(struct reader *r)
{
	while (r->at < r->end && blank(*r->at))
		r->at++;
}

static void
skip_line(struct reader *r)
{
	while (r->at < r->end && *r->at != '\n')
		r->at++;
	if (r->at < r->end)
		r->at++;
}

/* The next word of the line, its quotes removed; 0 when there is none. */
static int
word(struct reader *r, char out[WORD_SIZE])
{
	size_t len = 0;
	char quote = '\0';

	skip_blanks(r);
	if (r->at >= r->end || *r->at == '\n' || *r->at == '#')
		return 0;
	if (*r->at == '\'' || *r->at == '"')
		quote = *r->at++;
	for (; r->at < r->end && *r->at != '\n'; r->at++) {
		if (quote != '\0' ? *r->at == quote : blank(*r->at))
			break;
		if (*r->at == '\0' || len + 1 >= WORD_SIZE)
			return 0;
		out[len++] = *r->at;
	}
	if (quote != '\0') {
		if (r->at >= r->end || *r->at != quote)
			return 0;
		r->at++;
	}
	out[len] = '\0';
	return len > 0;
}

static int
line_ends(struct reader *r)
{
	skip_blanks(r);
	return r->at >= r->end || *r->at == '\n' || *r->at == '#';
}

/*
 * One pattern of the list: quoted, or else up to a blank before the next
 * slash, since names hold blanks.
 */
static int
next_pattern(const char **at, char out[WORD_SIZE])
{
	const char *p = *at;
	size_t len = 0;
	char quote = '\0';

	while (blank(*p))
		p++;
	if (*p == '\'' || *p == '"')
		quote = *p++;
	while (*p != '\0' && (quote == '\0' || *p != quote)) {
		if (quote == '\0' && (*p == '\'' || *p == '"'))
			break;
		if (quote == '\0' && blank(*p) && p[1 + strspn(p + 1, " \t")]
		    == '/')
			break;
		out[len++] = *p++;
	}
	if (quote != '\0' && *p++ != quote)
		return 0;
	while (quote == '\0' && len > 0 && blank(out[len - 1]))
		len--;
	out[len] = '\0';
	*at = p;
	return len > 0;
}

static int
conditions(struct reader *r, const char *list)
{
	char pattern[WORD_SIZE], now[WORD_SIZE];

	while (list[strspn(list, " \t\r")] != '\0') {
		if (!next_pattern(&list, pattern))
			return 0;
		(void)pil_name_spelling(pattern, now, sizeof(now));
		if (r->ours && r->may_sign && matches(now, r->subject))
			r->allowed = 1;
	}
	return 1;
}

static int
statement(struct reader *r)
{
	char key[WORD_SIZE], authority[WORD_SIZE], value[WORD_SIZE];
	char now[WORD_SIZE];

	if (!word(r, key) || !word(r, authority) || !word(r, value) ||
	    !line_ends(r))
		return 0;
	if (strcmp(key, "access_id_CA") == 0) {
		if (strcmp(authority, "X509") != 0 &&
		    strcmp(authority, "x509") != 0)
			return 0;
		(void)pil_name_spelling(value, now, sizeof(now));
		r->ours = strcmp(now, r->issuer) == 0;
		r->may_sign = 0;
		return 1;
	}
	if (strcmp(authority, "globus") != 0 &&
	    strcmp(authority, "GLOBUS") != 0)
		return 0;
	if (strcmp(key, "pos_rights") == 0) {
		r->may_sign = strcmp(value, "CA:sign") == 0;
		return 1;
	}
	if (strcmp(key, "cond_subjects") == 0)
		return conditions(r, value);
	return 0;
}

/* PIL_OK, SIGNING_POLICY_VIOLATION or SIGNING_POLICY_MALFORMED. */
enum pil_reason
pil_signing_allows(const char *text, size_t len, const char *issuer,
    const char *subject)
{
	char ca[WORD_SIZE], who[WORD_SIZE];
	struct reader r = { text, text + len, who, ca, 0, 0, 0 };

	(void)pil_name_spelling(issuer, ca, sizeof(ca));
	(void)pil_name_spelling(subject, who, sizeof(who));
	while (r.at < r.end) {
		if (!line_ends(&r) && !statement(&r))
			return PIL_SIGNING_POLICY_MALFORMED;
		skip_line(&r);
	}
	return r.allowed ? PIL_OK : PIL_SIGNING_POLICY_VIOLATION;
}

static enum pil_reason
check_one(struct pil_verify *v, X509 *x, X509 *ca)
{
	char subject[PIL_DN_SIZE], issuer[PIL_DN_SIZE], file[32];
	char show[PIL_SHOW_SIZE], by[PIL_SHOW_SIZE];
	enum pil_reason reason;
	unsigned char *text;
	size_t len;
	int got;

	pil_name_show(X509_get_subject_name(x), show);
	pil_name_show(X509_get_subject_name(ca), by);
	if (!pil_name_slash(X509_get_subject_name(x), subject,
	    sizeof(subject)) || !pil_name_slash(X509_get_subject_name(ca),
	    issuer, sizeof(issuer)))
		return pil_deny(v, PIL_NAME_UNSUPPORTED,
		    "the name of %s or of its issuer could be read as another",
		    show);
	if (!pil_hashed_name(X509_get_subject_name(ca), ".signing_policy",
	    file))
		return pil_deny(v, PIL_VERIFY_INTERNAL,
		    "a name could not be hashed");
	got = pil_read_file(&v->dirs, v->dirs.ca, file, 0, FILE_CAP, &text,
	    &len);
	if (got == 0)
		return pil_deny(v, PIL_SIGNING_POLICY_MISSING,
		    "there is no signing_policy of %s", by);
	if (got < 0)
		return pil_deny(v, PIL_CA_DIRECTORY_UNUSABLE,
		    "%s in the directory of trusted certificates cannot be "
		    "used", file);
	reason = pil_signing_allows((const char *)text, len, issuer, subject);
	OPENSSL_free(text);
	if (reason == PIL_SIGNING_POLICY_MALFORMED)
		return pil_deny(v, reason,
		    "%s, the signing_policy of %s, is malformed", file, by);
	if (reason != PIL_OK)
		return pil_deny(v, reason, "%.80s may not sign %.150s", by, show);
	return PIL_OK;
}

/* From the end entity at `first` up; proxies are bound by their issuer. */
enum pil_reason
pil_check_signing(struct pil_verify *v, STACK_OF(X509) *chain, int first)
{
	enum pil_reason reason;
	int i;

	if (v->opt->policy & PIL_P_NO_SIGNING_POLICY)
		return PIL_OK;
	for (i = first; i + 1 < sk_X509_num(chain); i++) {
		reason = check_one(v, sk_X509_value(chain, i),
		    sk_X509_value(chain, i + 1));
		if (reason == PIL_OK)
			reason = pil_check_namespaces(v, chain, i);
		if (reason != PIL_OK)
			return reason;
	}
	return PIL_OK;
}
