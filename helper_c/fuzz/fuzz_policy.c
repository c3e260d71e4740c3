/* The policy of [map], and what must hold of each that is taken. */
#include <string.h>

#include "fuzz.h"
#include "map/config.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	char *text = fuzz_string(data, len);
	struct pil_map_config config = { .grid_mapfile = "/grid",
	    .policy_text = text };
	const char *wrong;
	size_t i;

	wrong = pil_map_config_judge(&config);
	for (i = 0; i < config.policy.n; i++) {
		const struct pil_step *step = &config.policy.step[i];

		MUST(step->want != 0);
		MUST(step->file == NULL ? wrong != NULL :
		    step->file[0] == '/' &&
		    strpbrk(step->file, " \t,") == NULL);
		/* Neither a gridmapdir nor a groupmapfile is configured. */
		MUST(wrong != NULL || (step->want != PIL_WANT_POOL &&
		    step->groups == PIL_GROUPS_ACCOUNT));
	}
	MUST(wrong != NULL || config.policy.n > 0);
	MUST(config.policy.n <= PIL_STEPS_MAX);
	free(config.policy_words);
	free(text);
	return 0;
}
