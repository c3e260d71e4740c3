/*
 * Text that is built from untrusted parts: one line, printable, never longer
 * than its buffer; and JSON objects of one line.
 */
#ifndef PILOTAGE_BASE_TEXT_H
#define PILOTAGE_BASE_TEXT_H

#include <sys/types.h>

#include <stdarg.h>

#include "pilotage/verify.h"

/* Format into detail[PIL_DETAIL_SIZE]; anything unprintable becomes '?'. */
void	pil_detail(char *detail, const char *fmt, ...)
	    __attribute__((format(printf, 2, 3)));
void	pil_vdetail(char *detail, const char *fmt, va_list)
	    __attribute__((format(printf, 2, 0)));

/* Terminated, printable ASCII, and nothing but zeros behind the end? */
int	pil_is_clean(const char *field, size_t size);
int	pil_is_zero(const void *, size_t);

#define PIL_LINE_MAX	4096	/* a pipe takes this much at once, or nothing */

/* A field that does not fit is left out and "cut":true is added. */
struct pil_json {
	char	 buf[PIL_LINE_MAX];
	size_t	 len;
	int	 cut;
};

void	pil_json_open(struct pil_json *);
void	pil_json_string(struct pil_json *, const char *key, const char *);
void	pil_json_int(struct pil_json *, const char *key, long long);
void	pil_json_bool(struct pil_json *, const char *key, int);
void	pil_json_seconds(struct pil_json *, const char *key, long long usec);
void	pil_json_ids(struct pil_json *, const char *key, const gid_t *, size_t);
/* Close the object and end the line; returns its length. */
size_t	pil_json_close(struct pil_json *);

#endif
