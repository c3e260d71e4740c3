/*
 * The monitor: root in all ids, so that the caller cannot signal it. It asks
 * who the owner is (owner.c), takes the account and begins (begin.c). The steps
 * are those of helper.md 4.3.
 */
#include <sys/prctl.h>

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "keep/aide.h"
#include "keep/apart.h"
#include "keep/begin.h"
#include "keep/cgroup.h"
#include "keep/control.h"
#include "keep/isolate.h"
#include "keep/monitor.h"
#include "keep/owner.h"
#include "keep/share.h"
#include "keep/slot.h"
#include "keep/tell.h"
#include "privsep/switch.h"

static void
become_monitor(struct run *run)
{
	share_raise(run);
	if (chdir("/") == -1 || setpgid(0, 0) == -1 ||
	    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == -1)
		refuse(run, PIL_HELPER_SYSTEM, "monitor: %s", strerror(errno));
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
	/* Only then: without a group of its own the payload would go along. */
	if (cgroup_unified(run) != -1 && apart_go() == -1 &&
	    run->config.cgroup == CGROUP_REQUIRED)
		refuse(run, PIL_CGROUP_FAILED, "the monitor cannot leave a "
		    "control group that is the caller's: %s", strerror(errno));
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

void
monitor(struct run *run)
{
	char detail[PIL_DETAIL_SIZE];
	enum pil_reason reason;

	become_monitor(run);
	owner_begin(run);
	/* The mapper is the last program of root's; it gives up its own. */
	if (switch_bound() == -1)
		refuse(run, PIL_SWITCH_FAILED, "bounding set: %s",
		    strerror(errno));
	/* While the verifier starts. */
	cgroup_look();
	owner_identify(run);
	if (run->options.verb != VERB_MAP &&
	    (reason = slot_begin(run, detail)) != PIL_OK)
		refuse(run, reason, "%s", detail);
	owner_map(run);
	take_account(run);
	begin_check(run);
	isolate(run);
	begin(run);
}
