/*
 * Mapping reads files and asks the name service, whose modules are the site's
 * own: so it is done by a program of its own, and its answer is bounded here.
 */
#include <sys/prctl.h>
#include <sys/resource.h>

#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "base/text.h"
#include "keep/ask.h"
#include "keep/mapper.h"

/* Root, because the leases are root's; the rest it gives up by itself. */
static int
become(const struct run *run)
{
	char *argv[] = { (char *)(uintptr_t)"pilotage-map",
	    (char *)(uintptr_t)"answer", NULL };
	char *environment[] = { NULL };

	(void)run;
	if (ask_limit(RLIMIT_CORE, 0) == -1 ||
	    ask_limit(RLIMIT_CPU, ASK_SECONDS) == -1 ||
	    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) == -1 ||
	    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == -1)
		return 1;
	(void)execve(PILOTAGE_MAP, argv, environment);
	return 1;
}

static struct asked mapper = { "mapper", become, PIL_MAPPER_FAILED, NULL, -1,
    -1 };

enum pil_reason
mapper_begin(struct run *run, char *detail)
{
	return ask_begin(run, &mapper, &run->mapper, detail);
}

static int
make_request(const struct run *run, struct pil_map_request *request)
{
	if (pil_map_request_init(request) == -1)
		return -1;
	if (run->options.verb == VERB_MAP || run->mode != NULL)
		request->flags = PIL_M_DRY_RUN;
	request->min_uid = run->config.min_uid;
	request->min_gid = run->config.min_gid;
	request->caller = run->pilot.uid;
	request->caller_gid = run->pilot.gid;
	request->verifier_uid = run->verifier.uid;
	request->verifier_gid = run->verifier.gid;
	(void)snprintf(request->accounts, sizeof(request->accounts), "%s",
	    run->caller->accounts);
	if (run->options.account != NULL)
		(void)snprintf(request->expect, sizeof(request->expect), "%s",
		    run->options.account);
	/* One that is cut off here is too long to be executed, too. */
	if (run->options.command != NULL)
		(void)snprintf(request->command, sizeof(request->command),
		    "%s", run->options.command[0]);
	request->who = run->record.who;
	return 0;
}

enum pil_reason
mapper_ask(struct run *run, char *detail)
{
	static struct pil_map_request request;
	struct pil_map_record record;
	struct question question = { &request, NULL, sizeof(request), 0 };
	enum pil_reason reason;
	size_t got;

	if (make_request(run, &request) == -1) {
		pil_detail(detail, "no random bytes");
		return PIL_HELPER_SYSTEM;
	}
	reason = ask(run, &mapper, &question, &record, sizeof(record), &got,
	    detail);
	if (reason != PIL_OK)
		return reason;
	if (pil_map_record_check(&record, got, &request) != PIL_OK) {
		pil_detail(detail, "the mapper's answer is not sound");
		return PIL_MAPPER_RECORD;
	}
	/* 0 is the one value that lets the run go on. */
	if (record.reason == PIL_OK)
		run->map = record.map;
	else
		(void)snprintf(detail, PIL_DETAIL_SIZE, "%s",
		    record.map.detail);
	return (enum pil_reason)record.reason;
}
