/* helper.conf, and what must hold of every configuration that is taken. */
#include "keep/config.c"

#include "keep/bounds.h"
#include "fuzz.h"

static void
is_path(const char *value)
{
	MUST(value == NULL || (value[0] == '/' && strchr(value, '\n') == NULL));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static struct config config;
	struct reader reader = { .config = &config };
	char wrong[PIL_DETAIL_SIZE] = "", *text = fuzz_string(data, len);
	size_t i;

	memset(&config, 0, sizeof(config));
	if (pil_ini_parse(text, len, take, &reader, wrong) == -1) {
		MUST(wrong[0] != '\0' && strlen(wrong) < sizeof(wrong));
	} else if (missing(&config) == NULL) {
		MUST(config.ca_dir != NULL);
		MUST(config.verify_user != NULL && *config.verify_user != '\0');
		MUST(config.audit_file != NULL || config.syslog);
		is_path(config.ca_dir);
		is_path(config.voms_dir);
		is_path(config.audit_file);
		MUST(config.ncallers <= PIL_CALLERS_MAX);
		for (i = 0; i < config.ncallers; i++) {
			MUST(config.callers[i].name[0] != '\0');
			MUST(config.callers[i].vos != NULL ||
			    pil_says_yes(config.callers[i].without_vo));
			MUST(config.callers[i].accounts != NULL);
			MUST(bounds_caller(&config, config.callers[i].name) ==
			    &config.callers[i]);
		}
	}
	free(text);
	return 0;
}
