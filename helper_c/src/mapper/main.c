/*
 * pilotage-map answer		run by pilotage-keep, as root: one request in
 *				on descriptor 0, one record out on 1
 * pilotage-map check-config	run by anybody: is helper.conf usable, and
 *				every map file that it names?
 * pilotage-map recycle		run by root's timer: end the leases that nobody
 *				uses any more
 *
 * Exit code 0 of `answer` means that a record was written, whatever it says.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/answer.h"
#include "keep/config.h"
#include "map/map.h"
#include "mapper/modules.h"
#include "mapper/recycle.h"
#include "mapper/sandbox.h"

static struct pil_map_request request;
static struct pil_map_record record;

static int
answer(void)
{
	struct pil_map_config config;
	char detail[PIL_DETAIL_SIZE];
	enum pil_reason reason;

	reason = pil_map_config_load(&config, PILOTAGE_CONFIG, 0, detail);
	if (sandbox(reason == PIL_OK ? &config : NULL) == -1)
		pil_die("the sandbox could not be closed");
	modules_load();
	if (!pil_read_exactly(STDIN_FILENO, &request, sizeof(request)))
		pil_die("the request is too short");
	if (pil_map_answer(&config, reason, detail, &request, &record) == -1)
		pil_die("the request is malformed");
	if (write(STDOUT_FILENO, &record, sizeof(record)) !=
	    (ssize_t)sizeof(record))
		pil_die("the record could not be written");
	return 0;
}

static int
check_config(void)
{
	static struct config others;
	struct pil_map_config config;
	char detail[PIL_DETAIL_SIZE];
	enum pil_reason reason;

	reason = config_load(&others, PILOTAGE_CONFIG, 0, detail);
	if (reason == PIL_OK)
		reason = pil_map_config_load(&config, PILOTAGE_CONFIG, 0,
		    detail);
	if (reason == PIL_OK)
		reason = pil_map_check_files(&config, detail);
	if (reason == PIL_OK) {
		(void)printf("%s: ok\n", PILOTAGE_CONFIG);
		return 0;
	}
	(void)fprintf(stderr, "pilotage-exec: refused: %s (%d): %s\n",
	    pil_reason_name(reason), (int)reason, detail);
	return 202;
}

static int
recycle_leases(void)
{
	struct pil_map_config config;
	char detail[PIL_DETAIL_SIZE];

	/* Others' processes and homes cannot be looked at by anybody else. */
	if (getuid() != 0 || geteuid() != 0)
		pil_die("recycle is root's");
	if (pil_map_config_load(&config, PILOTAGE_CONFIG, 0, detail) == PIL_OK)
		return recycle(&config);
	(void)fprintf(stderr, "pilotage-map: %s\n", detail);
	return 202;
}

int
main(int argc, char **argv)
{
	if (clearenv() != 0)
		pil_die("the environment could not be emptied");
	if (argc == 2 && strcmp(argv[1], "answer") == 0)
		return answer();
	if (argc == 2 && strcmp(argv[1], "check-config") == 0)
		return check_config();
	if (argc == 2 && strcmp(argv[1], "recycle") == 0)
		return recycle_leases();
	pil_die("usage: pilotage-map answer|check-config|recycle");
}
