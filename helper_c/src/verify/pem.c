/*
 * A strict PEM reader (RFC 7468): one block at a time, text between blocks is
 * skipped, anything else that is not exactly a block is an error.
 */
#include <string.h>

#include <openssl/crypto.h>

#include "verify/core.h"

#define BEGIN	"-----BEGIN "
#define END	"-----END "
#define DASHES	"-----"

struct line {
	const char	*text;
	size_t		 len;	/* without line end and trailing blanks */
};

static int
next_line(struct pil_pem *pem, struct line *line)
{
	const char *stop;
	size_t left;

	if (pem->at >= pem->end)
		return 0;
	left = (size_t)(pem->end - pem->at);
	stop = memchr(pem->at, '\n', left);
	line->text = pem->at;
	line->len = stop == NULL ? left : (size_t)(stop - pem->at);
	pem->at = stop == NULL ? pem->end : stop + 1;
	while (line->len > 0 && strchr(" \t\r", line->text[line->len - 1]) !=
	    NULL && line->text[line->len - 1] != '\0')
		line->len--;
	return 1;
}

static int
starts(const struct line *line, const char *text)
{
	size_t len = strlen(text);

	return line->len >= len && memcmp(line->text, text, len) == 0;
}

/* The label of a BEGIN or END line; 0 when the line is not exactly one. */
static int
label(const struct line *line, const char *kind, char out[32])
{
	size_t head = strlen(kind), tail = strlen(DASHES), len, i;

	if (!starts(line, kind) || line->len < head + tail + 1)
		return 0;
	if (memcmp(line->text + line->len - tail, DASHES, tail) != 0)
		return 0;
	len = line->len - head - tail;
	if (len >= 32)
		return 0;
	for (i = 0; i < len; i++) {
		char c = line->text[head + i];

		if (!((c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
		    c == ' '))
			return 0;
		out[i] = c;
	}
	out[len] = '\0';
	return 1;
}

/* -1 where low <= c <= high, else 0. */
static int
within(int c, int low, int high)
{
	return ((low - 1 - c) & (c - high - 1)) >> 8;
}

/*
 * The value of a character, -1: it has none. Without a branch: which one is
 * next cannot be foreseen, and guessing wrong took longer than all the rest.
 */
static int
sextet(char character)
{
	int c = (unsigned char)character;

	return -1 + (within(c, 'A', 'Z') & (c - 'A' + 1)) +
	    (within(c, 'a', 'z') & (c - 'a' + 27)) +
	    (within(c, '0', '9') & (c - '0' + 53)) +
	    (within(c, '+', '+') & 63) + (within(c, '/', '/') & 64);
}

struct base64 {
	uint32_t	 bits;
	unsigned int	 have;	/* sextets of the current group */
	unsigned int	 pads;
	unsigned char	*out;
	size_t		 len;
};

/* 0 when the line is not base64 that may stand here. */
static int
decode(struct base64 *b, const struct line *line)
{
	size_t i;

	if (line->len == 0 || b->pads > 0)
		return 0;
	for (i = 0; i < line->len; i++) {
		int value = sextet(line->text[i]);

		if (value < 0) {
			if (line->text[i] != '=' || b->have < 2)
				return 0;
			value = 0;
			b->pads++;
		} else if (b->pads > 0)
			return 0;
		b->bits = (b->bits << 6) | (uint32_t)value;
		if (++b->have < 4)
			continue;
		if ((b->pads == 1 && (b->bits & 0xffu) != 0) ||
		    (b->pads == 2 && (b->bits & 0xffffu) != 0))
			return 0;
		b->out[b->len++] = (unsigned char)(b->bits >> 16);
		if (b->pads < 2)
			b->out[b->len++] = (unsigned char)(b->bits >> 8);
		if (b->pads < 1)
			b->out[b->len++] = (unsigned char)b->bits;
		b->bits = 0;
		b->have = 0;
		if (b->pads > 0 && i + 1 != line->len)
			return 0;
	}
	return 1;
}

/*
 * Headers of RFC 1421 ("Proc-Type: 4,ENCRYPTED") stand only in private keys;
 * such a key is encrypted and its body is of no use without asking a person.
 */
static int
skip_headers(struct pil_pem *pem, struct line *line)
{
	while (line->len > 0) {
		if (!next_line(pem, line))
			return 0;
	}
	return next_line(pem, line);
}

static int
body(struct pil_pem *pem, struct pil_block *block, struct base64 *b)
{
	struct line line;
	char last[32];

	if (!next_line(pem, &line))
		return 0;
	if (memchr(line.text, ':', line.len) != NULL) {
		if (strstr(block->label, "PRIVATE KEY") == NULL)
			return 0;
		block->encrypted = 1;
		if (!skip_headers(pem, &line))
			return 0;
	}
	for (;;) {
		if (starts(&line, DASHES))
			break;
		if (!decode(b, &line) || !next_line(pem, &line))
			return 0;
	}
	return label(&line, END, last) && strcmp(last, block->label) == 0 &&
	    b->have == 0 && b->len > 0;
}

/* 1: a block; 0: no more; -1: the text is not PEM. */
int
pil_pem_next(struct pil_pem *pem, struct pil_block *block)
{
	struct base64 b = { 0, 0, 0, NULL, 0 };
	struct line line;
	size_t size;

	memset(block, 0, sizeof(*block));
	do {
		if (!next_line(pem, &line))
			return 0;
		if (memchr(line.text, '\0', line.len) != NULL)
			return -1;
	} while (!starts(&line, DASHES));
	if (!label(&line, BEGIN, block->label))
		return -1;
	size = (size_t)(pem->end - pem->at) / 4 * 3 + 3;
	if ((b.out = OPENSSL_malloc(size)) == NULL)
		return -1;
	if (!body(pem, block, &b)) {
		OPENSSL_clear_free(b.out, size);
		return -1;
	}
	/* Keep only what was used: the rest of the input may be a key. */
	if ((block->der = OPENSSL_memdup(b.out, b.len)) != NULL)
		block->len = b.len;
	OPENSSL_clear_free(b.out, size);
	return block->der != NULL ? 1 : -1;
}
