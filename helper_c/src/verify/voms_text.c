/*
 * The texts of an attribute certificate: which server speaks for which VO,
 * and the FQANs. Everything is matched against a list of allowed characters
 * before it is used, most of all before it becomes part of a path.
 */
#include <string.h>

#include "verify/voms.h"

static int
word_char(unsigned char c)
{
	return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
	    (c >= '0' && c <= '9') || c == '_' || c == '.' || c == '-';
}

/* The length of the word at p; 0 when there is none. */
static size_t
word(const unsigned char *p, size_t len)
{
	size_t n;

	for (n = 0; n < len && word_char(p[n]); n++)
		continue;
	/* "." and ".." are no names, and no name begins like them. */
	return n > 0 && p[0] == '.' ? 0 : n;
}

/* "vo://host:port" into its parts; 0 when it is not exactly that. */
int
pil_voms_uri(const unsigned char *uri, size_t len, char vo[PIL_NAME_SIZE],
    char server[PIL_NAME_SIZE])
{
	size_t n, port = 0, digits;

	n = word(uri, len);
	if (n == 0 || n >= PIL_NAME_SIZE || len - n < 3 ||
	    memcmp(uri + n, "://", 3) != 0)
		return 0;
	memcpy(vo, uri, n);
	vo[n] = '\0';
	uri += n + 3;
	len -= n + 3;
	n = word(uri, len);
	if (n == 0 || n >= PIL_NAME_SIZE - 8 || uri[0] == '-' ||
	    memchr(uri, '_', n) != NULL || n == len || uri[n] != ':')
		return 0;
	memcpy(server, uri, n);
	server[n] = '\0';
	uri += n + 1;
	len -= n + 1;
	for (digits = 0; digits < len && digits < 6; digits++) {
		if (uri[digits] < '0' || uri[digits] > '9')
			return 0;
		port = port * 10 + (size_t)(uri[digits] - '0');
	}
	return digits == len && digits > 0 && port > 0 && port <= 65535;
}

static int
begins(const unsigned char *p, size_t len, const char *text)
{
	return len >= strlen(text) && memcmp(p, text, strlen(text)) == 0;
}

/* Append "/" and a component. */
static void
put(char out[PIL_NAME_SIZE], size_t *used, const unsigned char *p, size_t len)
{
	out[(*used)++] = '/';
	memcpy(out + *used, p, len);
	*used += len;
	out[*used] = '\0';
}

/*
 * /vo(/group)*[/Role=role][/Capability=cap], normalised: Role=NULL means no
 * role and the capability has no meaning any more. 0 when it is not an FQAN of
 * the VO. What is written is never longer than what is read.
 */
int
pil_voms_fqan(const unsigned char *p, size_t len, const char *vo,
    char out[PIL_NAME_SIZE])
{
	enum { VO, GROUP, ROLE, CAPABILITY } state = VO;
	size_t used = 0, n, head;

	if (len == 0 || len >= PIL_NAME_SIZE)
		return 0;
	while (len > 0) {
		if (*p != '/')
			return 0;
		p++;
		len--;
		head = 0;
		if (state != VO && begins(p, len, "Role=")) {
			if (state >= ROLE)
				return 0;
			state = ROLE;
			head = 5;
		} else if (state != VO && begins(p, len, "Capability=")) {
			if (state >= CAPABILITY)
				return 0;
			state = CAPABILITY;
			head = 11;
		} else if (state >= ROLE)
			return 0;
		if ((n = word(p + head, len - head)) == 0)
			return 0;
		if (state == VO) {
			if (n != strlen(vo) || memcmp(p, vo, n) != 0)
				return 0;
			state = GROUP;
			put(out, &used, p, n);
		} else if (state == GROUP || (state == ROLE && !(n == 4 &&
		    memcmp(p + head, "NULL", 4) == 0)))
			put(out, &used, p, head + n);
		p += head + n;
		len -= head + n;
	}
	return state != VO;
}
