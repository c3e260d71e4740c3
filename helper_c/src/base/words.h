/* Lists as configuration and map files write them: blanks or commas between. */
#ifndef PILOTAGE_BASE_WORDS_H
#define PILOTAGE_BASE_WORDS_H

#include <stddef.h>

/* Take the next word of a list; 0 at the end. Too long a one becomes "". */
int	pil_word_next(const char **list, char *word, size_t size);

/* Does a word of the list fit the text, as the function says? */
int	pil_word_in(const char *list, const char *text,
	    int (*fits)(const char *word, const char *text));

/* The value of a key that may be missing, which is a no. */
int	pil_says_yes(const char *value);

/* A caller's bound: an account's name, or a beginning and '*'. */
int	pil_account_bound(const char *bound, const char *account);

/* An account's or pool's name: letters, digits and "._-", no bare number. */
int	pil_is_account(const char *name, size_t len);

#endif
