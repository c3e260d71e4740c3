/*
 * A fuzz target is a fuzz_*.c with this one function. It aborts when a promise
 * of the code under test is broken; sanitizers find the rest.
 */
#ifndef PILOTAGE_FUZZ_H
#define PILOTAGE_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int	LLVMFuzzerTestOneInput(const uint8_t *, size_t);

/* The input as a string of its own size, so that a read beyond it is seen. */
static inline char *
fuzz_string(const uint8_t *data, size_t len)
{
	char *text = malloc(len + 1);
	size_t i;

	if (text == NULL)
		abort();
	for (i = 0; i < len; i++)
		text[i] = (char)data[i];
	text[len] = '\0';
	return text;
}

/* The input as a file; the path of it, which the next call writes anew. */
const char	*fuzz_file(const uint8_t *, size_t);

#define MUST(promise)							\
	do {								\
		if (!(promise)) {					\
			(void)fprintf(stderr, "%s:%d: %s\n", __FILE__,	\
			    __LINE__, #promise);			\
			abort();					\
		}							\
	} while (0)

/* A field of a record is one string within it, of printable characters. */
static inline void
fuzz_is_text(const char *field, size_t size)
{
	size_t len = strnlen(field, size), i;

	MUST(len < size);
	for (i = 0; i < len; i++)
		MUST(field[i] >= ' ' && field[i] <= '~');
}

#endif
