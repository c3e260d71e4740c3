/*
 * Lists as configuration and map files write them.
 */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "base/words.h"
#include "pilotage/map.h"

static int
blank(char c)
{
	return c == ' ' || c == '\t' || c == ',';
}

int
pil_word_next(const char **list, char *word, size_t size)
{
	const char *p = *list;
	size_t len = 0;

	while (blank(*p))
		p++;
	while (p[len] != '\0' && !blank(p[len]))
		len++;
	*list = p + len;
	(void)snprintf(word, size, "%.*s", (int)(len < size ? len : 0), p);
	return len != 0;
}

int
pil_word_in(const char *list, const char *text,
    int (*fits)(const char *, const char *))
{
	char word[PIL_NAME_SIZE];

	while (pil_word_next(&list, word, sizeof(word)))
		if (fits(word, text))
			return 1;
	return 0;
}

int
pil_says_yes(const char *value)
{
	return value != NULL && strcmp(value, "yes") == 0;
}

int
pil_account_bound(const char *bound, const char *account)
{
	size_t len = strlen(bound);

	if (len > 0 && bound[len - 1] == '*')
		return strncmp(bound, account, len - 1) == 0;
	return strcmp(bound, account) == 0;
}

int
pil_is_account(const char *name, size_t len)
{
	size_t i, digits = 0;

	if (len == 0 || len >= PIL_ACCOUNT_SIZE ||
	    !(isalnum((unsigned char)name[0]) || name[0] == '_'))
		return 0;
	for (i = 0; i < len; i++) {
		unsigned char c = (unsigned char)name[i];

		if (!isalnum(c) && c != '.' && c != '_' && c != '-')
			return 0;
		digits += isdigit(c) != 0;
	}
	return digits < len;
}
