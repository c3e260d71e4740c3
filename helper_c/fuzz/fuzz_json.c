/*
 * Audit and status lines made of untrusted text. Whatever goes in, one whole
 * line of JSON comes out: this reads it back. The input's lines are values.
 */
#include <ctype.h>
#include <string.h>

#include "base/text.h"
#include "fuzz.h"

static const char *
string(const char *p)
{
	MUST(*p++ == '"');
	for (; *p != '"'; p++) {
		MUST(*p >= ' ' && *p <= '~');
		if (*p != '\\')
			continue;
		p++;
		MUST(*p == '"' || *p == '\\' || *p == 'u');
		if (*p == 'u') {
			MUST(isxdigit((unsigned char)p[1]) &&
			    isxdigit((unsigned char)p[2]) &&
			    isxdigit((unsigned char)p[3]) &&
			    isxdigit((unsigned char)p[4]));
			p += 4;
		}
	}
	return p + 1;
}

static const char *
value(const char *p)
{
	if (*p == '"')
		return string(p);
	if (strncmp(p, "true", 4) == 0)
		return p + 4;
	if (*p == '[') {
		p += 1 + strspn(p + 1, "0123456789,");
		MUST(*p == ']');
		return p + 1;
	}
	MUST(isdigit((unsigned char)*p) || *p == '-');
	return p + strspn(p, "-0123456789.");
}

static void
is_line(const struct pil_json *json, size_t len)
{
	const char *p = json->buf;

	MUST(len < sizeof(json->buf) && *p++ == '{');
	while (*p != '}') {
		p = string(p);
		MUST(*p++ == ':');
		p = value(p);
		MUST(*p == '}' || (*p == ',' && p[1] == '"'));
		p += *p == ',';
	}
	MUST(p[1] == '\n' && p + 2 == json->buf + len);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static struct pil_json json;
	char *text = fuzz_string(data, len), *line, *rest = text;
	char detail[PIL_DETAIL_SIZE];
	gid_t ids[256];
	size_t n = len < 256 ? len : 256, i;

	for (i = 0; i < n; i++)
		ids[i] = (gid_t)data[i] << 24 | (gid_t)i;
	pil_detail(detail, "%s: %zu", text, len);
	pil_json_open(&json);
	pil_json_string(&json, "detail", detail);
	while ((line = strsep(&rest, "\n")) != NULL) {
		pil_json_string(&json, "text", line);
		pil_json_seconds(&json, "seconds", (long long)len * 999983);
	}
	pil_json_ids(&json, "groups", ids, n);
	pil_json_int(&json, "number", -(long long)len);
	pil_json_bool(&json, "flag", 1);
	is_line(&json, pil_json_close(&json));
	free(text);
	return 0;
}
