/*
 * Phase 4: the monitor's loop, and the end of a run.
 *
 * Whatever ends the payload, the end is the same: everything is killed, the
 * account is cleaned, END is logged, and only then the caller hears of it.
 */
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "keep/aide.h"
#include "keep/audit.h"
#include "keep/bound.h"
#include "keep/cgroup.h"
#include "keep/control.h"
#include "keep/isolate.h"
#include "keep/monitor.h"
#include "keep/oldlog.h"
#include "keep/payload.h"
#include "keep/renew.h"
#include "keep/slot.h"
#include "keep/sweep.h"
#include "keep/tell.h"
#include "privsep/sys.h"

#define LOST_USEC	500000		/* grace when the caller has died */
#define DRAIN_USEC	5000000
#define DEATH_USEC	10000
#define NEVER		0x7fffffffffffffffll
#define LIMIT_MEMORY	903	/* the pilot's reason, not one of ours */

struct watch {
	struct run	*run;
	int		 failed;	/* the child's pipe; -1 once it is closed */
	int		 children;	/* signalfd of SIGCHLD */
	long long	 deadline;
	int		 noise;		/* the front has sent some */
	enum pil_reason	 why;		/* what ended the run, if not itself */
	struct failure	 failure;
};

static void
tell_started(const struct run *run)
{
	struct pil_json json;
	size_t len;

	pil_json_open(&json);
	pil_json_string(&json, "event", "start");
	pil_json_string(&json, "run_id", run->id);
	audit_mode(run, &json);
	pil_json_string(&json, "account", run->named->account);
	pil_json_int(&json, "uid", run->named->uid);
	pil_json_int(&json, "gid", run->named->gid);
	pil_json_string(&json, "dn", run->record.who.dn);
	pil_json_string(&json, "fqan", run->record.who.fqan[0]);
	pil_json_string(&json, "tracking", cgroup_tracking(run));
	pil_json_string(&json, "isolation", isolate_name(run));
	if (run->missing[0] != '\0')
		pil_json_string(&json, "missing", run->missing);
	audit_bounds(run, &json);
	len = pil_json_close(&json);
	tell_front(run, MESSAGE_STATUS, 0, PIL_OK, json.buf, len);
}

/* End of file means execve; a failure means that it will never be. */
static void
hear_child(struct watch *w)
{
	ssize_t n = read(w->failed, &w->failure, sizeof(w->failure));

	if (n == -1 && errno == EINTR)
		return;
	if (n == sizeof(w->failure)) {
		w->failure.detail[PIL_DETAIL_SIZE - 1] = '\0';
		w->deadline = 0;
	} else {
		memset(&w->failure, 0, sizeof(w->failure));
		tell_started(w->run);
	}
	(void)close(w->failed);
	w->failed = -1;
}

static void
end_within(struct watch *w, long long usec)
{
	long long deadline = sys_now_usec() + usec;

	if (deadline < w->deadline)
		w->deadline = deadline;
}

static int
pass_on(struct watch *w, int sig, int all)
{
	int failed = all ? sweep_signal(w->run, sig) :
	    sys_pidfd_kill(w->run->payload.pidfd, sig);

	if (sig == SIGTERM)
		end_within(w, w->run->config.term_grace * 1000000ll);
	return failed;
}

/* Only once, so that a front that was taken over cannot fill the log. */
static void
log_noise(struct watch *w)
{
	struct pil_json json;

	if (w->noise)
		return;
	w->noise = 1;
	audit_begin(w->run, &json, "IGNORED");
	pil_json_string(&json, "message", "the front has sent what is no "
	    "signal that it passes on");
	(void)audit_write(w->run, &json);
}

/* One byte is a signal; anything else is no message of ours. */
static void
hear_front(struct watch *w)
{
	unsigned char sig[2];
	ssize_t n = recv(w->run->front, sig, sizeof(sig), MSG_DONTWAIT);

	if (n == -1 && (errno == EINTR || errno == EAGAIN))
		return;
	if (n <= 0) {
		w->why = PIL_FRONT_LOST;
		(void)sys_pidfd_kill(w->run->payload.pidfd, SIGTERM);
		end_within(w, LOST_USEC);
	} else if (n == 1 && message_relays(sig[0]))
		(void)pass_on(w, sig[0], 0);
	else
		log_noise(w);
}

/* An order of the caller's over the control socket, logged before it is done. */
static void
hear_control(struct watch *w)
{
	struct run *run = w->run;
	enum pil_reason reason = PIL_OK;
	char detail[PIL_DETAIL_SIZE];
	struct pil_json json;
	struct order order;
	int fd;

	if (!control_hear(run, &order, &fd))
		return;
	if (order.kind == ORDER_RENEW)
		reason = renew(run, fd, detail);
	else if (order.kind != ORDER_SIGNAL || !message_relays(order.signal)) {
		reason = PIL_HELPER_USAGE;
		pil_detail(detail, "no order that can be given");
	} else {
		audit_begin(run, &json, "SIGNAL");
		pil_json_int(&json, "signal", order.signal);
		pil_json_bool(&json, "all", order.all != 0);
		pil_detail(detail, "signal %d to %s", order.signal,
		    order.all ? "all processes" : "the main process");
		if (audit_write(run, &json) == -1)
			reason = PIL_AUDIT_UNAVAILABLE;
		else if (pass_on(w, order.signal, order.all) != 0)
			reason = PIL_CGROUP_FAILED;
	}
	control_answer(run, reason, detail);
	if (fd != -1)
		(void)close(fd);
}

static void
loop(struct watch *w)
{
	struct pollfd fds[6] = { { .events = POLLIN }, { .events = POLLIN },
	    { .events = POLLIN }, { .events = POLLIN }, { .events = POLLIN },
	    { .events = POLLIN } };
	const struct control *control = &w->run->control;
	struct signalfd_siginfo info;
	long long now, wake;

	while (!w->run->payload.ended) {
		now = sys_now_usec();
		if (w->deadline <= now)
			return;
		wake = w->deadline;
		if (control->quiet > now && control->quiet < wake)
			wake = control->quiet;
		fds[0].fd = w->children;
		fds[1].fd = w->why == PIL_FRONT_LOST ? -1 : w->run->front;
		fds[2].fd = w->failed;
		fds[3].fd = control->quiet > now ? -1 : control->listener;
		fds[4].fd = control->client;
		/* Says the end as long as nobody has waited for it. */
		fds[5].fd = w->run->payload.pidfd;
		if (poll(fds, 6, wake == NEVER ? -1 :
		    (int)((wake - now + 999) / 1000)) == -1)
			continue;
		if (fds[2].revents != 0)
			hear_child(w);
		if (fds[1].revents != 0)
			hear_front(w);
		if (fds[4].revents != 0)
			hear_control(w);
		if (fds[3].revents != 0)
			control_accept(w->run);
		if (fds[0].revents != 0)
			(void)!read(w->children, &info, sizeof(info));
		if (fds[0].revents != 0 || fds[5].revents != 0)
			(void)aide_reap(w->run);
	}
	/* The child may have said why in its last moment. */
	if (w->failed != -1)
		hear_child(w);
}

/* What needs nobody's leave: another run may hold the account for long. */
static void
kill_own(const struct run *run)
{
	(void)sys_pidfd_kill(run->payload.pidfd, SIGKILL);
	if (run->init.pid != 0)
		(void)sys_pidfd_kill(run->init.pidfd, SIGKILL);
	(void)cgroup_kill(&run->cgroup);
}

/*
 * Kill the rest: by the uid when no other run shares it, and whatever is or
 * becomes our child in any case.
 */
static int
kill_everything(struct run *run, int alone)
{
	long long deadline = sys_now_usec() + DRAIN_USEC;
	int left = 0;

	/*
	 * It ends after all others in there have been reaped, by us where they
	 * are ours; until it is reaped itself it has the uid.
	 */
	while (aide_reap(run) && run->init.pid != 0 && !run->init.ended &&
	    sys_now_usec() < deadline)
		aide_pause(DEATH_USEC);
	if (alone)
		left = sweep_processes(run);
	while (aide_reap(run) && sys_now_usec() < deadline) {
		aide_kill_children();
		aide_pause(DEATH_USEC);
	}
	if (aide_reap(run) && left == 0)
		left = 1;
	return left;
}

struct ending {
	int		 code;		/* the front's exit code */
	int		 exit_code, sig;	/* the payload's own */
	int		 processes, files;	/* left behind */
	enum pil_reason	 reason;
};

static void
judge_status(const struct run *run, struct ending *end)
{
	int status = run->payload.status;

	end->exit_code = -1;
	end->sig = SIGKILL;
	if (run->payload.ended && WIFEXITED(status)) {
		end->exit_code = WEXITSTATUS(status);
		end->sig = 0;
		/* Nobody must take these for the helper's own. */
		end->code = end->exit_code >= 201 && end->exit_code <= 204 ?
		    204 : end->exit_code;
		return;
	}
	if (run->payload.ended && WIFSIGNALED(status))
		end->sig = WTERMSIG(status);
	end->code = 128 + end->sig;
}

static void
describe(const struct run *run, const struct ending *end,
    struct pil_json *json)
{
	pil_json_int(json, "exit_code", end->exit_code);
	pil_json_int(json, "signal", end->sig);
	pil_json_seconds(json, "wall_seconds",
	    sys_now_usec() - run->start_usec);
	pil_json_seconds(json, "cpu_user_seconds", run->usage.user_usec);
	pil_json_seconds(json, "cpu_system_seconds", run->usage.system_usec);
	pil_json_int(json, "max_rss_bytes", run->usage.maxrss_kib * 1024);
	if (run->usage.memory_peak != -1)
		pil_json_int(json, "peak_memory_bytes",
		    run->usage.memory_peak);
	if (run->usage.pids_peak != -1)
		pil_json_int(json, "peak_pids", run->usage.pids_peak);
	if (end->reason == PIL_OK && run->usage.oom_kills > 0) {
		pil_json_string(json, "reason", "LIMIT_MEMORY");
		pil_json_int(json, "number", LIMIT_MEMORY);
	} else if (end->reason != PIL_OK) {
		pil_json_string(json, "reason", pil_reason_name(end->reason));
		pil_json_int(json, "number", end->reason);
	} else
		pil_json_string(json, "reason", "");
	pil_json_int(json, "left_processes", end->processes);
	pil_json_int(json, "left_files", end->files);
}

static void
tell_ended(const struct run *run, const struct ending *end)
{
	struct pil_json json;
	size_t len;

	pil_json_open(&json);
	pil_json_string(&json, "event", "end");
	pil_json_string(&json, "run_id", run->id);
	audit_mode(run, &json);
	pil_json_string(&json, "account", run->named->account);
	pil_json_int(&json, "uid", run->named->uid);
	describe(run, end, &json);
	len = pil_json_close(&json);
	tell_front(run, MESSAGE_STATUS, 0, PIL_OK, json.buf, len);
	tell_front(run, MESSAGE_EXIT, end->code, PIL_OK, "", 0);
}

static void
finish(struct watch *w)
{
	struct run *run = w->run;
	struct ending end = { .reason = w->why };
	struct pil_json json;
	int held, alone, left, unlogged;

	kill_own(run);
	control_end(run);
	held = slot_hold(run);
	alone = held == 1;
	end.processes = kill_everything(run, alone);
	sweep_begin(run, run->id, alone && !run->options.glexec);
	judge_status(run, &end);
	/* The cleaner is the keeper's own process and in none of the groups. */
	bound_usage(run);
	/* Not held, nobody knows whether it was the account's last run. */
	left = cgroup_remove(&run->cgroup) == -1 || held == -1 ||
	    end.processes != 0;
	left |= (end.files = sweep_end(run)) != 0;
	if (left && end.reason == PIL_OK)
		end.reason = PIL_CLEANUP_INCOMPLETE;
	/* Its record, as if we had died: the account's next run tries again. */
	if (left)
		slot_abandon(run);
	else
		slot_release(run);
	if (w->failure.reason != PIL_OK)
		refuse_code(run, w->failure.code != 0 ? w->failure.code :
		    tell_code(w->failure.reason), w->failure.reason,
		    w->failure.detail);
	audit_begin(run, &json, "END");
	describe(run, &end, &json);
	unlogged = audit_write(run, &json);
	unlogged |= oldlog_end(run);
	if (unlogged && end.reason == PIL_OK)
		end.reason = PIL_AUDIT_UNAVAILABLE;
	tell_ended(run, &end);
	_exit(end.code);
}

void
watch(struct run *run, int go, int failed)
{
	struct watch w = { .run = run, .failed = failed, .deadline = NEVER };
	sigset_t set;

	(void)sigemptyset(&set);
	(void)sigaddset(&set, SIGCHLD);
	w.children = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (w.children == -1 || sys_write_all(go, "g", 1) == -1) {
		w.failure.reason = PIL_HELPER_SYSTEM;
		(void)snprintf(w.failure.detail, sizeof(w.failure.detail),
		    "the payload could not be let go: %s", strerror(errno));
		w.deadline = 0;
	}
	/* go stays open: the payload sees by it that we live. */
	if (w.deadline == NEVER)
		loop(&w);
	finish(&w);
	_exit(202);	/* never reached; fail safe */
}
