/* The keys of one section of a configuration file, as a table. */
#ifndef PILOTAGE_BASE_SETTINGS_H
#define PILOTAGE_BASE_SETTINGS_H

#include <stddef.h>
#include <stdint.h>

#define PIL_ID_MAX	4294967293u	/* the largest id that is nobody's */

enum pil_setting_kind {
	PIL_PATH,	/* const char *: an absolute path */
	PIL_WORD,	/* const char *: any text but none */
	PIL_NUMBER,	/* unsigned: decimal, from min to max */
	PIL_SIZE,	/* unsigned long long: the same */
	PIL_WORDS	/* unsigned: the index of one of max known words */
};

struct pil_setting {
	const char	*name;
	enum pil_setting_kind kind;
	size_t		 offset;	/* of the field in the configuration */
	uint64_t	 min, max;	/* PIL_WORDS: max is their count */
	const char	*words[4];
};

/* Store one key's value; NULL, or what is wrong. At most 64 settings. */
const char	*pil_setting_take(const struct pil_setting *, size_t n,
		    uint64_t *seen, void *config, const char *name,
		    const char *value);

#endif
