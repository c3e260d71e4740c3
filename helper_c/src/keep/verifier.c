/*
 * The verifier runs under its own uid, with nothing but its two pipes, for one
 * question. Whatever a hostile proxy makes of it, it can only answer.
 */
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/utsname.h>

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/text.h"
#include "keep/ask.h"
#include "keep/become.h"
#include "keep/verifier.h"

static int
become(const struct run *run)
{
	const struct config *config = &run->config;
	struct utsname host;
	const char *voms = config->voms_dir ? config->voms_dir : "-";
	char *argv[] = { (char *)(uintptr_t)"pilotage-verify",
	    (char *)(uintptr_t)config->ca_dir, (char *)(uintptr_t)voms,
	    host.nodename, NULL }, *environment[] = { NULL };

	if (uname(&host) == -1 || host.nodename[0] == '\0')
		(void)strcpy(host.nodename, "-");
	if (ask_limit(RLIMIT_CORE, 0) == -1 ||
	    ask_limit(RLIMIT_FSIZE, 0) == -1 ||
	    ask_limit(RLIMIT_CPU, 2) == -1 ||
	    ask_limit(RLIMIT_NOFILE, 64) == -1 ||
	    ask_limit(RLIMIT_AS, 256ul * 1024 * 1024) == -1)
		return 1;
	if (become_verifier(run) == -1)
		return 1;
	/* NPROC counts once the uid is the verifier's; it never forks. */
	if (ask_limit(RLIMIT_NPROC, 0) == -1 ||
	    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) == -1 ||
	    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == -1)
		return 1;
	(void)execve(PILOTAGE_VERIFY, argv, environment);
	return 1;
}

static int
make_request(const struct run *run, const struct proxy *proxy,
    struct pil_request *request)
{
	memset(request, 0, sizeof(*request));
	memcpy(request->magic, PIL_RECORD_MAGIC, sizeof(request->magic));
	request->version = PIL_RECORD_VERSION;
	request->pem_size = (uint32_t)proxy->len;
	request->at = time(NULL);
	request->skew = (int32_t)run->config.clock_skew;
	request->max_voms_seconds = run->config.max_voms_life;
	request->max_proxy_seconds = run->config.max_proxy_life;
	request->policy = PIL_P_REQUIRE_KEY | PIL_P_REQUIRE_PROXY;
	if (run->config.require_crl)
		request->policy |= PIL_P_REQUIRE_CRL;
	if (run->config.refuse_limited)
		request->policy |= PIL_P_REFUSE_LIMITED;
	if (run->config.accept_old)
		request->policy |= PIL_P_ACCEPT_OLD;
	return getrandom(request->nonce, sizeof(request->nonce), 0) ==
	    sizeof(request->nonce) ? 0 : -1;
}

static struct asked verifier = { "verifier", become, PIL_VERIFIER_FAILED, NULL,
    -1, -1 };

enum pil_reason
verifier_begin(struct run *run, char *detail)
{
	return ask_begin(run, &verifier, &run->aide, detail);
}

enum pil_reason
verifier_ask(struct run *run, const struct proxy *proxy,
    struct pil_record *record, char *detail)
{
	struct pil_request request;
	struct question question = { &request, proxy->pem, sizeof(request),
	    proxy->len };
	enum pil_reason reason = PIL_OK;
	size_t got;

	if (make_request(run, proxy, &request) == -1) {
		pil_detail(detail, "no random bytes");
		return PIL_HELPER_SYSTEM;
	}
	/* The first one of a run waits already. */
	if (run->aide.pid == 0)
		reason = verifier_begin(run, detail);
	if (reason == PIL_OK)
		reason = ask(run, &verifier, &question, record,
		    sizeof(*record), &got, detail);
	if (reason == PIL_OK && pil_record_check(record, got, &request,
	    proxy->digest, time(NULL)) != PIL_OK) {
		pil_detail(detail, "the verifier's answer is not sound");
		reason = PIL_VERIFIER_RECORD;
	} else if (reason == PIL_OK) {
		/* 0 is the one value that lets the run go on. */
		reason = (enum pil_reason)record->who.reason;
		(void)snprintf(detail, PIL_DETAIL_SIZE, "%s",
		    record->who.detail);
	}
	/* Nobody, and the log neither, sees a word that is not believed. */
	if (reason != PIL_OK)
		memset(record, 0, sizeof(*record));
	return reason;
}
