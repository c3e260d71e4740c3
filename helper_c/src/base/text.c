/*
 * One-line texts and JSON objects from untrusted parts.
 */
#include <stdio.h>
#include <string.h>

#include "base/text.h"

#define TAIL	",\"cut\":true}\n"

void
pil_vdetail(char *detail, const char *fmt, va_list ap)
{
	size_t i;

	if (vsnprintf(detail, PIL_DETAIL_SIZE, fmt, ap) < 0)
		detail[0] = '\0';
	for (i = 0; detail[i] != '\0'; i++)
		if (detail[i] < ' ' || detail[i] > '~')
			detail[i] = '?';
}

void
pil_detail(char *detail, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	pil_vdetail(detail, fmt, ap);
	va_end(ap);
}

int
pil_is_clean(const char *field, size_t size)
{
	size_t i = 0;

	while (i < size && field[i] >= ' ' && field[i] <= '~')
		i++;
	return i < size && pil_is_zero(field + i, size - i);
}

int
pil_is_zero(const void *bytes, size_t size)
{
	const unsigned char *p = bytes;

	/* Each byte is the next one: by words, where a loop goes by bytes. */
	return size == 0 || (*p == 0 && memcmp(p, p + 1, size - 1) == 0);
}

/* Append text whole, or not at all. */
static int
append(struct pil_json *json, const char *text)
{
	size_t len = strlen(text);

	if (json->len + len + sizeof(TAIL) > sizeof(json->buf))
		return -1;
	memcpy(json->buf + json->len, text, len);
	json->len += len;
	return 0;
}

static int
append_key(struct pil_json *json, const char *key)
{
	if (json->buf[json->len - 1] != '{' && append(json, ",") == -1)
		return -1;
	if (append(json, "\"") == -1 || append(json, key) == -1)
		return -1;
	return append(json, "\":");
}

/*
 * Everything but printable ASCII is written as an escape, byte by byte, so
 * that the line is valid whatever the bytes are.
 */
static int
append_escaped(struct pil_json *json, const char *value)
{
	char unit[8];

	for (; *value != '\0'; value++) {
		unsigned char c = (unsigned char)*value;

		if (c == '"' || c == '\\')
			(void)snprintf(unit, sizeof(unit), "\\%c", c);
		else if (c < ' ' || c > '~')
			(void)snprintf(unit, sizeof(unit), "\\u%04x", c);
		else
			(void)snprintf(unit, sizeof(unit), "%c", c);
		if (append(json, unit) == -1)
			return -1;
	}
	return 0;
}

static void
undo(struct pil_json *json, size_t len)
{
	json->len = len;
	json->cut = 1;
}

void
pil_json_open(struct pil_json *json)
{
	json->buf[0] = '{';
	json->len = 1;
	json->cut = 0;
}

void
pil_json_string(struct pil_json *json, const char *key, const char *value)
{
	size_t start = json->len;

	if (append_key(json, key) == -1 || append(json, "\"") == -1 ||
	    append_escaped(json, value) == -1 || append(json, "\"") == -1)
		undo(json, start);
}

static void
raw(struct pil_json *json, const char *key, const char *value)
{
	size_t start = json->len;

	if (append_key(json, key) == -1 || append(json, value) == -1)
		undo(json, start);
}

void
pil_json_int(struct pil_json *json, const char *key, long long value)
{
	char number[24];

	(void)snprintf(number, sizeof(number), "%lld", value);
	raw(json, key, number);
}

void
pil_json_bool(struct pil_json *json, const char *key, int value)
{
	raw(json, key, value ? "true" : "false");
}

void
pil_json_seconds(struct pil_json *json, const char *key, long long usec)
{
	char number[40];

	/* A clock that was not read is no reason for a line that nobody can. */
	if (usec < 0)
		usec = 0;
	(void)snprintf(number, sizeof(number), "%lld.%06lld", usec / 1000000,
	    usec % 1000000);
	raw(json, key, number);
}

void
pil_json_ids(struct pil_json *json, const char *key, const gid_t *ids, size_t n)
{
	size_t start = json->len, i;
	char number[16];
	int failed = append_key(json, key) == -1 || append(json, "[") == -1;

	for (i = 0; i < n && !failed; i++) {
		(void)snprintf(number, sizeof(number), "%s%u", i ? "," : "",
		    ids[i]);
		failed = append(json, number) == -1;
	}
	if (failed || append(json, "]") == -1)
		undo(json, start);
}

size_t
pil_json_close(struct pil_json *json)
{
	const char *tail = json->cut ? TAIL : "}\n";

	/* append() always leaves room for the tail. */
	memcpy(json->buf + json->len, tail, strlen(tail));
	json->len += strlen(tail);
	return json->len;
}
