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
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "keep/config.h"
#include "map/map.h"
#include "mapper/modules.h"
#include "mapper/recycle.h"
#include "mapper/sandbox.h"

static struct pil_map_request request;
static struct pil_map_record record;

static void __attribute__((noreturn))
die(const char *what)
{
	(void)fprintf(stderr, "pilotage-map: %s\n", what);
	_exit(1);
}

static int
read_exactly(void *buffer, size_t size)
{
	unsigned char *at = buffer;
	ssize_t n;

	while (size > 0) {
		n = read(STDIN_FILENO, at, size);
		if (n == -1 && errno == EINTR)
			continue;
		if (n <= 0)
			return 0;
		at += n;
		size -= (size_t)n;
	}
	return 1;
}

static int
answer(void)
{
	struct pil_map_config config;
	char detail[PIL_DETAIL_SIZE];
	enum pil_reason reason;

	reason = pil_map_config_load(&config, PILOTAGE_CONFIG, 0, detail);
	if (sandbox(reason == PIL_OK ? &config : NULL) == -1)
		die("the sandbox could not be closed");
	modules_load();
	if (!read_exactly(&request, sizeof(request)))
		die("the request is too short");
	if (pil_map_answer(&config, reason, detail, &request, &record) == -1)
		die("the request is malformed");
	if (write(STDOUT_FILENO, &record, sizeof(record)) !=
	    (ssize_t)sizeof(record))
		die("the record could not be written");
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
		die("recycle is root's");
	if (pil_map_config_load(&config, PILOTAGE_CONFIG, 0, detail) == PIL_OK)
		return recycle(&config);
	(void)fprintf(stderr, "pilotage-map: %s\n", detail);
	return 202;
}

int
main(int argc, char **argv)
{
	if (clearenv() != 0)
		die("the environment could not be emptied");
	if (argc == 2 && strcmp(argv[1], "answer") == 0)
		return answer();
	if (argc == 2 && strcmp(argv[1], "check-config") == 0)
		return check_config();
	if (argc == 2 && strcmp(argv[1], "recycle") == 0)
		return recycle_leases();
	die("usage: pilotage-map answer|check-config|recycle");
}
