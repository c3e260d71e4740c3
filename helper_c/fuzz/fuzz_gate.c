/* Time slots and permitted executables. */
#include <string.h>

#include "fuzz.h"
#include "map/commands.h"
#include "map/timeslots.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	const char *path = fuzz_file(data, len);
	char detail[PIL_DETAIL_SIZE], *text = fuzz_string(data, len);
	const time_t noon = 1795867200;
	enum pil_reason reason;
	struct tm now;

	MUST(gmtime_r(&noon, &now) != NULL);
	(void)pil_timeslot(text, &now);
	reason = pil_timeslots_check(path, 1, noon, detail);
	MUST(reason == PIL_OK || reason == PIL_TIME_SLOT_CLOSED ||
	    reason == PIL_MAP_FILE_MALFORMED);
	reason = pil_commands_check(path, 1, "/usr/bin/python3", detail);
	MUST(reason == PIL_OK || reason == PIL_COMMAND_FORBIDDEN ||
	    reason == PIL_MAP_FILE_MALFORMED);
	reason = pil_commands_check(path, 1, "/usr/../etc/x", detail);
	MUST(reason == PIL_COMMAND_FORBIDDEN ||
	    reason == PIL_MAP_FILE_MALFORMED);
	if (pil_command_fits("/opt/", text))
		MUST(strncmp(text, "/opt/", 5) == 0 && pil_command_plain(text));
	free(text);
	return 0;
}
