/*
 * .lsc files: which certificates a VOMS server signs with, by name only.
 * Lines are subject, issuer, the issuer's issuer and so on in pairs; a line
 * "------ NEXT CHAIN ------" begins an alternative.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include <openssl/crypto.h>
#include <openssl/x509.h>

#include "base/names.h"
#include "verify/voms.h"

#define FILE_CAP	((size_t)64 * 1024)

struct chain {
	const char *const	*names;	/* subject, issuer, ... as carried */
	size_t			 count;
	size_t			 line;	/* of the current alternative */
	int			 same;
	int			 found;
	int			 any;
};

static int
separator(const char *line)
{
	static const char text[] = "------NEXTCHAIN------";
	size_t i = 0;

	for (; *line != '\0'; line++) {
		if (*line == ' ' || *line == '\t')
			continue;
		if (i >= sizeof(text) - 1 || *line != text[i++])
			return 0;
	}
	return i == sizeof(text) - 1;
}

/* End of an alternative; 0 when its lines are not pairs. */
static int
close_chain(struct chain *c)
{
	if (c->line % 2 != 0)
		return 0;
	if (c->line > 0)
		c->any = 1;
	if (c->same && c->line > 0 && c->line == c->count)
		c->found = 1;
	c->line = 0;
	c->same = 1;
	return 1;
}

static int
take_line(struct chain *c, char *line)
{
	size_t len = strlen(line);

	while (len > 0 && strchr(" \t\r", line[len - 1]) != NULL)
		line[--len] = '\0';
	while (*line == ' ' || *line == '\t')
		line++;
	if (*line == '\0' || *line == '#')
		return 1;
	if (separator(line))
		return close_chain(c);
	if (*line != '/')
		return 0;
	if (c->line >= c->count || !pil_dn_equal(line, c->names[c->line]))
		c->same = 0;
	c->line++;
	return 1;
}

/* 1: an alternative is exactly these names; 0: none is; -1: malformed. */
int
pil_lsc_match(const char *text, size_t len, const char *const *names,
    size_t count)
{
	struct chain c = { names, count, 0, 1, 0, 0 };
	char line[2 * PIL_DN_SIZE];
	const char *end = text + len, *stop;
	size_t n;

	while (text < end) {
		stop = memchr(text, '\n', (size_t)(end - text));
		n = stop == NULL ? (size_t)(end - text) :
		    (size_t)(stop - text);
		if (n >= sizeof(line) || memchr(text, '\0', n) != NULL)
			return -1;
		memcpy(line, text, n);
		line[n] = '\0';
		if (!take_line(&c, line))
			return -1;
		text = stop == NULL ? end : stop + 1;
	}
	if (!close_chain(&c) || !c.any)
		return -1;
	return c.found;
}

static enum pil_reason
compare(struct pil_verify *v, const struct pil_ac *a, const char *text,
    size_t len)
{
	char names[2 * PIL_VOMS_CERTS][PIL_DN_SIZE];
	const char *list[2 * PIL_VOMS_CERTS];
	int i, n = sk_X509_num(a->certs), match;

	/* The list was counted when it was read; the arrays depend on it. */
	if (n < 1 || n > PIL_VOMS_CERTS)
		return pil_deny(v, PIL_VOMS_LSC_MISMATCH,
		    "there are %d certificates of %.100s", n, a->server);
	for (i = 0; i < n; i++) {
		X509 *x = sk_X509_value(a->certs, i);

		if (!pil_name_slash(X509_get_subject_name(x), names[2 * i],
		    PIL_DN_SIZE) || !pil_name_slash(X509_get_issuer_name(x),
		    names[2 * i + 1], PIL_DN_SIZE))
			return pil_deny(v, PIL_VOMS_LSC_MISMATCH,
			    "a name in the certificates of %.100s could be "
			    "read as another", a->server);
		list[2 * i] = names[2 * i];
		list[2 * i + 1] = names[2 * i + 1];
	}
	match = pil_lsc_match(text, len, list, (size_t)n * 2);
	if (match < 0)
		return pil_deny(v, PIL_VOMS_LSC_UNUSABLE,
		    "%.60s/%.100s.lsc is malformed", a->vo, a->server);
	if (match == 0)
		return pil_deny(v, PIL_VOMS_LSC_MISMATCH,
		    "%.60s/%.100s.lsc does not name the %d certificate(s) of "
		    "the server", a->vo, a->server, n);
	return PIL_OK;
}

/* The file is opened below the VO's directory and never through a link. */
enum pil_reason
pil_check_lsc(struct pil_verify *v, struct pil_ac *a)
{
	char file[PIL_NAME_SIZE + 8];
	enum pil_reason reason;
	unsigned char *text;
	size_t len;
	int got;

	(void)snprintf(file, sizeof(file), "%s.lsc", a->server);
	got = pil_read_file(&v->dirs, a->vo_dir, file, O_NOFOLLOW, FILE_CAP,
	    &text, &len);
	if (got == 0)
		return pil_deny(v, PIL_VOMS_LSC_MISSING,
		    "there is no %.60s/%.100s.lsc", a->vo, a->server);
	if (got < 0)
		return pil_deny(v, PIL_VOMS_LSC_UNUSABLE,
		    "%.60s/%.100s.lsc cannot be used: kind, owner, mode or size",
		    a->vo, a->server);
	reason = compare(v, a, (const char *)text, len);
	OPENSSL_free(text);
	return reason;
}
