/*
 * namespaces files (EUGridPMA, version 1.0): which names a CA may sign.
 *
 *	TO Issuer "/C=XX/O=Grid/CN=CA" PERMIT Subject "/C=XX/O=Grid/.*"
 *	TO Issuer SELF DENY Subject "/C=XX/O=Grid/CN=old .*"
 *
 * A subject is a regular expression of which only what such files use is
 * read: characters, '.', '.*', and a backslash before what is no letter or
 * digit. It stands for the whole name. What is refused could mean something
 * else to another reader of the file. Brackets stand for themselves where
 * they permit, as in the names of CAs that are "[Run by the Issuer]", and are
 * refused where they would forbid less than a class of characters does.
 */
#include <fcntl.h>
#include <string.h>

#include <openssl/crypto.h>
#include <openssl/x509.h>

#include "verify/core.h"

#define FILE_CAP	((size_t)64 * 1024)
#define TEXT_SIZE	PIL_DN_SIZE
#define SPELT_SIZE	(4 * TEXT_SIZE)
#define VERSION		"#NAMESPACES-VERSION:"

struct reader {
	const char	*at;
	const char	*end;
	unsigned	 line;
};

struct statement {
	char	 issuer[TEXT_SIZE];
	char	 subject[TEXT_SIZE];
	int	 self;
	int	 deny;
};

/* Parts of a pattern that are no character. */
#define ANY	256
#define MANY	257

struct pattern {
	unsigned short	 part[SPELT_SIZE];
	size_t		 n;
	int		 fold;	/* capitals and small letters are the same */
};

/* Of ASCII, whatever the locale of the process. */
static int
lower(int c)
{
	return c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c;
}

static int
alphanumeric(int c)
{
	return (c >= '0' && c <= '9') || (lower(c) >= 'a' && lower(c) <= 'z');
}

static int
blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r';
}

/* The length of a backslash with the end of line behind it; 0: none here. */
static size_t
continuation(const struct reader *r)
{
	size_t left = (size_t)(r->end - r->at);

	if (left >= 2 && memcmp(r->at, "\\\n", 2) == 0)
		return 2;
	return left >= 3 && memcmp(r->at, "\\\r\n", 3) == 0 ? 3 : 0;
}

/* Whether there was a blank, or a line that goes on in the next. */
static int
skip_blanks(struct reader *r)
{
	const char *begin = r->at;
	size_t n;

	while (r->at < r->end) {
		if (blank(*r->at))
			r->at++;
		else if ((n = continuation(r)) > 0) {
			r->at += n;
			r->line++;
		} else
			break;
	}
	return r->at > begin;
}

static int
keyword(struct reader *r, const char *want)
{
	size_t n = strlen(want), i;

	if ((size_t)(r->end - r->at) < n)
		return 0;
	for (i = 0; i < n; i++)
		if (lower(r->at[i]) != lower(want[i]))
			return 0;
	r->at += n;
	return skip_blanks(r);
}

/* A text in double quotes; its backslashes stay, as their meaning differs. */
static int
quoted(struct reader *r, char out[TEXT_SIZE])
{
	size_t len = 0;

	if (r->at >= r->end || *r->at++ != '"')
		return 0;
	for (; r->at < r->end && *r->at != '"'; r->at++) {
		if (*r->at == '#')
			return 0;
		if (*r->at == '\\' && len + 1 < TEXT_SIZE) {
			out[len++] = *r->at++;
			if (r->at >= r->end || alphanumeric(*r->at))
				return 0;
		}
		if (*r->at < ' ' || *r->at > '~' || len + 1 >= TEXT_SIZE)
			return 0;
		out[len++] = *r->at;
	}
	if (r->at >= r->end)
		return 0;
	r->at++;
	out[len] = '\0';
	return len > 0;
}

/* The rest of a line: nothing, or a comment, which names no other version. */
static int
line_ends(struct reader *r)
{
	const char *from, *p;
	size_t len;

	while (r->at < r->end && blank(*r->at))
		r->at++;
	from = r->at;
	p = memchr(from, '\n', (size_t)(r->end - from));
	r->at = p == NULL ? r->end : p;
	len = (size_t)(r->at - from);
	if (len == 0)
		return 1;
	if (*from != '#' || memchr(from, '\0', len) != NULL)
		return 0;
	if (len < strlen(VERSION) ||
	    memcmp(from, VERSION, strlen(VERSION)) != 0)
		return 1;
	for (from += strlen(VERSION); from < r->at && blank(*from); from++)
		continue;
	for (p = r->at; p > from && blank(p[-1]); p--)
		continue;
	return p - from == 3 && memcmp(from, "1.0", 3) == 0;
}

static int
statement(struct reader *r, struct statement *s)
{
	if (!keyword(r, "TO") || !keyword(r, "Issuer"))
		return 0;
	s->self = keyword(r, "SELF");
	if (!s->self && (!quoted(r, s->issuer) || !skip_blanks(r)))
		return 0;
	s->deny = keyword(r, "DENY");
	if (!s->deny && !keyword(r, "PERMIT"))
		return 0;
	return keyword(r, "Subject") && quoted(r, s->subject) && line_ends(r);
}

static int
compile(const char *text, int deny, struct pattern *p)
{
	char spelt[SPELT_SIZE];
	const char *c;

	p->n = 0;
	p->fold = deny;
	if (!pil_name_spelling(text, spelt, sizeof(spelt)))
		return 0;
	for (c = spelt; *c != '\0'; c++) {
		if (*c == '\\')
			p->part[p->n++] = (unsigned char)*++c;
		else if (*c == '.' && c[1] == '*') {
			p->part[p->n++] = MANY;
			c++;
		} else if (*c == '.')
			p->part[p->n++] = ANY;
		else if (strchr(deny ? "*+?(){}|^$[]" : "*+?(){}|^$", *c) !=
		    NULL)
			return 0;
		else
			p->part[p->n++] = (unsigned char)*c;
	}
	return 1;
}

static int
one(const struct pattern *p, size_t i, char c)
{
	if (p->part[i] == ANY)
		return 1;
	return p->fold ? lower(p->part[i]) == lower((unsigned char)c) :
	    p->part[i] == (unsigned char)c;
}

/* Back to the last '.*' only: never more than both lengths' product. */
static int
matches(const struct pattern *p, const char *text)
{
	const char *back = NULL;
	size_t i = 0, many = 0;

	while (*text != '\0') {
		if (i < p->n && p->part[i] == MANY) {
			many = ++i;
			back = text;
		} else if (i < p->n && one(p, i, *text)) {
			i++;
			text++;
		} else if (back != NULL) {
			i = many;
			text = ++back;
		} else
			return 0;
	}
	while (i < p->n && p->part[i] == MANY)
		i++;
	return i == p->n;
}

/* 1 when the statement speaks of the issuer; -1 when its name is too long. */
static int
concerns(const struct statement *s, const char *issuer, int own)
{
	char spelt[SPELT_SIZE];
	size_t i, n;

	if (s->self)
		return own;
	if (!pil_name_spelling(s->issuer, spelt, sizeof(spelt)))
		return -1;
	for (i = n = 0; spelt[i] != '\0'; i++) {
		if (spelt[i] == '\\')
			i++;
		spelt[n++] = spelt[i];
	}
	spelt[n] = '\0';
	return strcmp(spelt, issuer) == 0;
}

/*
 * What a file says of this subject of this issuer. `own` says that the file is
 * the issuer's, else it is that of an authority above, whose SELF is another.
 * The order of statements means nothing: one DENY refuses. `line` is the last
 * one read, so that of the fault in a malformed file.
 */
enum pil_said
pil_namespaces_say(const char *text, size_t len, const char *issuer,
    const char *subject, int own, unsigned *line)
{
	struct reader r = { text, text + len, 1 };
	int spoken = 0, permitted = 0, denied = 0, ours;
	char ca[SPELT_SIZE], who[SPELT_SIZE];
	struct statement s;
	struct pattern p;

	*line = 1;
	if (!pil_name_spelling(issuer, ca, sizeof(ca)) ||
	    !pil_name_spelling(subject, who, sizeof(who)))
		return PIL_SAID_NO;
	while (r.at < r.end) {
		const char *begin = r.at;

		*line = r.line;
		if (*begin == '\n') {
			r.at++;
			r.line++;
			continue;
		}
		if (line_ends(&r))
			continue;
		r.at = begin;
		(void)skip_blanks(&r);
		if (!statement(&r, &s) || !compile(s.subject, s.deny, &p) ||
		    (ours = concerns(&s, ca, own)) == -1) {
			*line = r.line;
			return PIL_SAID_MALFORMED;
		}
		spoken |= ours;
		if (ours && matches(&p, who)) {
			permitted |= !s.deny;
			denied |= s.deny;
		}
	}
	if (!spoken)
		return PIL_SAID_NOTHING;
	return permitted && !denied ? PIL_SAID_YES : PIL_SAID_NO;
}

unsigned
pil_namespaces_fault(const char *text, size_t len)
{
	unsigned line;

	return pil_namespaces_say(text, len, "", "", 0, &line) ==
	    PIL_SAID_MALFORMED ? line : 0;
}

/*
 * 1 when the file is there and says something of the issuer, 0 when it is
 * there and does not, -1 when there is none; or the reason.
 */
static int
ask_file(struct pil_verify *v, const X509 *of, const char *issuer,
    const char *subject, int own, enum pil_reason *reason)
{
	enum pil_said said;
	unsigned char *text;
	unsigned line;
	char file[32];
	size_t len;
	int got;

	*reason = pil_hashed_name(X509_get_subject_name(of), ".namespaces",
	    file) ? PIL_OK : pil_deny(v, PIL_VERIFY_INTERNAL,
	    "a name could not be hashed");
	if (*reason != PIL_OK)
		return -1;
	got = pil_read_file(&v->dirs, v->dirs.ca, file, 0, FILE_CAP, &text,
	    &len);
	/* A link that leads nowhere is a rule that was lost, not none. */
	if (got == 0 && (got = pil_read_file(&v->dirs, v->dirs.ca, file,
	    O_NOFOLLOW, FILE_CAP, &text, &len)) == 0)
		return -1;
	if (got < 0) {
		*reason = pil_deny(v, PIL_CA_DIRECTORY_UNUSABLE, "%s in the "
		    "directory of trusted certificates cannot be used", file);
		return -1;
	}
	said = pil_namespaces_say((const char *)text, len, issuer, subject,
	    own, &line);
	OPENSSL_free(text);
	if (said == PIL_SAID_MALFORMED)
		*reason = pil_deny(v, PIL_NAMESPACES_MALFORMED,
		    "line %u of %s is no statement of a namespaces file", line,
		    file);
	else if (said == PIL_SAID_NO) {
		len = strlen(subject);
		*reason = pil_deny(v, PIL_NAMESPACES_VIOLATION,
		    "%.70s may not sign %s by %s", issuer,
		    subject + (len > 120 ? len - 120 : 0), file);
	}
	return said != PIL_SAID_NOTHING;
}

/*
 * Certificate `i` of the chain by the files of its issuer and of those above:
 * none overrules another. Without a file of the issuer and without a word in
 * the others the signing_policy alone has decided.
 */
enum pil_reason
pil_check_namespaces(struct pil_verify *v, STACK_OF(X509) *chain, int i)
{
	const X509 *x = sk_X509_value(chain, i);
	const X509 *ca = sk_X509_value(chain, i + 1);
	char subject[PIL_DN_SIZE], issuer[PIL_DN_SIZE];
	int k, own = -1, spoken = 0, said;
	enum pil_reason reason;

	if (!pil_name_slash(X509_get_subject_name(x), subject,
	    sizeof(subject)) || !pil_name_slash(X509_get_subject_name(ca),
	    issuer, sizeof(issuer)))
		return pil_deny(v, PIL_NAME_UNSUPPORTED,
		    "a name could be read as another");
	for (k = i + 1; k < sk_X509_num(chain); k++) {
		said = ask_file(v, sk_X509_value(chain, k), issuer, subject,
		    k == i + 1, &reason);
		if (reason != PIL_OK)
			return reason;
		if (k == i + 1)
			own = said;
		spoken |= said == 1;
	}
	if (own == 0 && !spoken)
		return pil_deny(v, PIL_NAMESPACES_VIOLATION,
		    "the namespaces file of %.150s says nothing of it", issuer);
	return PIL_OK;
}
