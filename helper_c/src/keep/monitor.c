/*
 * The monitor: root in all ids, so that the caller cannot signal it. It asks
 * the verifier, bounds the answer, maps it, takes the account, writes START
 * and lets the payload go. The steps are those of helper.md 4.3.
 */
#include <sys/prctl.h>

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "keep/aide.h"
#include "keep/audit.h"
#include "keep/bounds.h"
#include "keep/cgroup.h"
#include "keep/control.h"
#include "keep/isolate.h"
#include "keep/mapper.h"
#include "keep/monitor.h"
#include "keep/oldlog.h"
#include "keep/payload.h"
#include "keep/share.h"
#include "keep/slot.h"
#include "keep/tell.h"
#include "keep/verifier.h"
#include "privsep/sys.h"

static void
become_monitor(struct run *run)
{
	share_raise(run);
	if (chdir("/") == -1 || setpgid(0, 0) == -1 ||
	    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == -1)
		refuse(run, PIL_HELPER_SYSTEM, "monitor: %s", strerror(errno));
}

static void
ask(struct run *run, const struct proxy *proxy, struct pil_record *record)
{
	char detail[PIL_DETAIL_SIZE];
	enum pil_reason reason;

	if ((reason = verifier_ask(run, proxy, record, detail)) != PIL_OK)
		refuse(run, reason, "%s", detail);
	/* 0 is the one value that lets the run go on. */
	if (record->who.reason != PIL_OK) {
		reason = (enum pil_reason)record->who.reason;
		(void)snprintf(detail, sizeof(detail), "%s",
		    record->who.detail);
		memset(&record->who, 0, sizeof(record->who));
		refuse(run, reason, "%s", detail);
	}
}

/* A second proxy for the payload is the same owner's, or it is not handed on. */
static void
identify(struct run *run)
{
	static struct pil_record second;
	char detail[PIL_DETAIL_SIZE];
	enum pil_reason reason;

	ask(run, &run->proxy, &run->record);
	reason = bounds_owner(run->caller, &run->record.who, detail);
	if (reason != PIL_OK)
		refuse(run, reason, "%s", detail);
	if (run->source.len == 0)
		return;
	ask(run, &run->source, &second);
	if (strcmp(run->record.who.dn, second.who.dn) != 0)
		refuse(run, PIL_PROXY_FILE_UNUSABLE, "--source-proxy is "
		    "another owner's: %s", second.who.dn);
}

/* Verb map: what a run would become; nothing is leased. */
static void
answer_map(struct run *run)
{
	struct pil_json json;
	size_t len;

	pil_json_open(&json);
	pil_json_string(&json, "event", "map");
	pil_json_string(&json, "account", run->map.account);
	pil_json_int(&json, "uid", run->map.uid);
	pil_json_int(&json, "gid", run->map.gid);
	pil_json_ids(&json, "groups", run->map.groups, run->map.ngroups);
	pil_json_string(&json, "lease", run->map.lease);
	pil_json_string(&json, "dn", run->record.who.dn);
	len = pil_json_close(&json);
	tell_front(run, MESSAGE_MAP, 0, PIL_OK, json.buf, len);
	audit_begin(run, &json, "MAP");
	if (audit_write(run, &json) == -1)
		refuse(run, PIL_AUDIT_UNAVAILABLE, "MAP cannot be logged");
	tell_front(run, MESSAGE_EXIT, 0, PIL_OK, "", 0);
	_exit(0);
}

/*
 * Loading it and closing its sandbox take as long as mapping, and both can be
 * done while the verifier works. Until it is asked it only reads the site's
 * configuration; a refusal ends it.
 */
static void
begin_mapper(struct run *run)
{
	char detail[PIL_DETAIL_SIZE];
	enum pil_reason reason;

	if ((reason = mapper_begin(run, detail)) != PIL_OK)
		refuse(run, reason, "%s", detail);
}

static void
map_owner(struct run *run)
{
	char detail[PIL_DETAIL_SIZE];
	enum pil_reason reason;

	if (run->options.verb != VERB_MAP &&
	    (reason = slot_begin(run, detail)) != PIL_OK)
		refuse(run, reason, "%s", detail);
	if ((reason = mapper_ask(run, detail)) != PIL_OK)
		refuse(run, reason, "%s", detail);
}

/*
 * Step 16: groups of its own where the machine can, as the site wants it. A
 * bound that cannot be set refuses; the caller can only ask for narrower ones.
 */
static void
make_cgroup(struct run *run)
{
	char detail[PIL_DETAIL_SIZE];
	unsigned long long site;
	enum tree tree;

	for (tree = TREE_MEMORY; tree < NTREES; tree++) {
		site = run->config.bounds[tree];
		run->bounds[tree] = run->options.bounds[tree];
		if (run->bounds[tree] == 0 ||
		    (site != 0 && site < run->bounds[tree]))
			run->bounds[tree] = site;
	}
	if (cgroup_make(run, detail) == -1)
		refuse(run, PIL_CGROUP_FAILED, "%s", detail);
}

/* Step 18: without namespaces only if the site says so, and never in silence. */
static void
isolate(struct run *run)
{
	if (run->config.namespaces == NAMESPACES_OFF)
		return;
	if (run->options.glexec)
		pil_detail(run->missing, "the steps of a caller of gLExec see "
		    "each other's files and processes");
	else if (isolate_make(run, run->missing) == 0)
		return;
	else {
		aide_end(&run->init);
		run->init.pid = 0;
	}
	if (run->config.namespaces == NAMESPACES_REQUIRED)
		refuse(run, PIL_ISOLATION_FAILED, "%s", run->missing);
}

static void
take_account(struct run *run)
{
	char detail[PIL_DETAIL_SIZE];
	enum pil_reason reason;

	if ((reason = slot_take(run, detail)) != PIL_OK)
		refuse(run, reason, "%s", detail);
	make_cgroup(run);
	if (slot_record(run) == -1)
		refuse(run, PIL_HELPER_SYSTEM, "record: %s", strerror(errno));
	if (control_open(run) == -1)
		refuse(run, PIL_HELPER_SYSTEM, "control socket: %s",
		    strerror(errno));
}

/* A caller that has gone wants no payload any more. */
static void
check_front(struct run *run)
{
	struct pollfd pfd = { .fd = run->front, .events = POLLIN };

	if (poll(&pfd, 1, 0) == 1 && (pfd.revents & (POLLHUP | POLLERR)) != 0)
		refuse(run, PIL_FRONT_LOST, "the caller ended first");
}

void
monitor(struct run *run)
{
	struct start start = { -1, -1 };
	struct pil_json json;

	become_monitor(run);
	begin_mapper(run);
	identify(run);
	map_owner(run);
	if (run->options.verb == VERB_MAP)
		answer_map(run);
	take_account(run);
	check_front(run);
	isolate(run);
	run->start_usec = sys_now_usec();
	if (payload_clone(run, &start) == -1)
		refuse(run, PIL_HELPER_SYSTEM, "payload: %s", strerror(errno));
	audit_begin(run, &json, "START");
	pil_json_int(&json, "payload_pid", run->payload.pid);
	if (audit_write(run, &json) == -1)
		refuse(run, PIL_AUDIT_UNAVAILABLE, "START cannot be logged");
	run->started = 1;
	if (oldlog_begin(run) == -1)
		refuse(run, PIL_AUDIT_UNAVAILABLE, "the legacy lines cannot "
		    "be logged");
	/* The payload's pipes must close with the payload. */
	if (sys_let_go(STDIN_FILENO, STDERR_FILENO) == -1)
		refuse(run, PIL_HELPER_SYSTEM, "descriptors: %s",
		    strerror(errno));
	watch(run, start.go, start.failed);
}
