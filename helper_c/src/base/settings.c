/*
 * Settings by a table: an unknown or repeated key is an error, and so is a
 * value that is not exactly of its kind.
 */
#include <stdint.h>
#include <string.h>

#include "base/settings.h"

static const char *
take_number(const struct pil_setting *key, const char *value, void *field)
{
	uint64_t n = 0;
	size_t len = strlen(value), i;

	if (len == 0 || len > 19 || strspn(value, "0123456789") != len)
		return "the value is not a number";
	for (i = 0; i < len; i++)
		n = n * 10 + (uint64_t)(value[i] - '0');
	if (n < key->min || n > key->max)
		return "the number is out of range";
	if (key->kind == PIL_SIZE)
		*(unsigned long long *)field = n;
	else
		*(unsigned *)field = (unsigned)n;
	return NULL;
}

static const char *
take_word(const struct pil_setting *key, const char *value, unsigned *out)
{
	unsigned i;

	for (i = 0; i < key->max; i++)
		if (strcmp(key->words[i], value) == 0) {
			*out = i;
			return NULL;
		}
	return "the value is not one of the known words";
}

const char *
pil_setting_take(const struct pil_setting *settings, size_t n, uint64_t *seen,
    void *config, const char *name, const char *value)
{
	size_t i = 0;
	void *field;

	while (i < n && strcmp(settings[i].name, name) != 0)
		i++;
	if (i == n)
		return "unknown key";
	if (*seen & UINT64_C(1) << i)
		return "repeated key";
	*seen |= UINT64_C(1) << i;
	field = (char *)config + settings[i].offset;
	if (settings[i].kind == PIL_NUMBER || settings[i].kind == PIL_SIZE)
		return take_number(&settings[i], value, field);
	if (settings[i].kind == PIL_WORDS)
		return take_word(&settings[i], value, field);
	if (*value == '\0')
		return "the value is empty";
	if (settings[i].kind == PIL_PATH && *value != '/')
		return "the value is not an absolute path";
	*(const char **)field = value;
	return NULL;
}
