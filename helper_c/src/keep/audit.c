/*
 * The audit log. The descriptors are opened once and the log never depends on
 * the ids of the moment. One write() takes one line; a line that the file does
 * not take whole is an error, and before START that refuses the run.
 */
#include <sys/socket.h>
#include <sys/un.h>

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/sha256.h"
#include "keep/audit.h"
#include "keep/cgroup.h"
#include "keep/isolate.h"
#include "keep/lines.h"

#define LOG_SOCKET	"/dev/log"
#define LOG_PRIORITY	86	/* authpriv.info */

int
audit_daemon(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd == -1)
		return -1;
	(void)snprintf(address.sun_path, sizeof(address.sun_path), LOG_SOCKET);
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0)
		return fd;
	(void)close(fd);
	return -1;
}

int
audit_open(struct run *run, char *detail)
{
	const char *path = run->config.audit_file;

	if (run->config.syslog && run->audit_log == -1)
		run->audit_log = audit_daemon();
	if (path == NULL && run->audit_log != -1)
		return 0;
	if (path == NULL) {
		pil_detail(detail, "no log daemon listens on " LOG_SOCKET);
		return -1;
	}
	run->audit_file = lines_open(path, detail);
	return run->audit_file == -1 ? -1 : 0;
}

static void
now(char *out, size_t size)
{
	struct timespec time;
	struct tm utc;
	size_t n;

	(void)clock_gettime(CLOCK_REALTIME, &time);
	if (gmtime_r(&time.tv_sec, &utc) == NULL ||
	    (n = strftime(out, size, "%Y-%m-%dT%H:%M:%S", &utc)) == 0)
		n = 0;
	(void)snprintf(out + n, size - n, ".%06ldZ", time.tv_nsec / 1000);
}

void
audit_mode(const struct run *run, struct pil_json *json)
{
	if (run->mode != NULL)
		pil_json_string(json, "mode", run->mode);
}

void
audit_bounds(const struct run *run, struct pil_json *json)
{
	static const char *const names[NTREES] = { [TREE_MEMORY] =
	    "memory_bytes", [TREE_PIDS] = "pids", [TREE_CPU] = "cpu_percent" };
	enum tree tree;

	for (tree = TREE_MEMORY; tree < NTREES; tree++)
		if (run->bounds[tree] != 0)
			pil_json_int(json, names[tree],
			    (long long)run->bounds[tree]);
}

void
audit_begin(const struct run *run, struct pil_json *json, const char *event)
{
	const struct pil_identity *who = &run->record.who;
	const struct pil_mapping *map = run->named;
	char text[80];

	pil_json_open(json);
	now(text, sizeof(text));
	pil_json_string(json, "time", text);
	pil_json_string(json, "event", event);
	pil_json_string(json, "run_id", run->id);
	pil_json_int(json, "pid", getpid());
	audit_mode(run, json);
	pil_json_string(json, "caller", run->caller_name);
	pil_json_int(json, "caller_uid", run->pilot.uid);
	pil_json_string(json, "verb",
	    run->options.verb == VERB_MAP ? "map" :
	    run->options.verb == VERB_CLEANUP ? "cleanup" :
	    run->options.glexec ? "glexec" : "run");
	pil_json_string(json, "job_id", run->options.job_id);
	if (run->proxy.len != 0) {
		pil_hex(run->proxy.digest, sizeof(run->proxy.digest), text);
		pil_json_string(json, "proxy_sha256", text);
	}
	if (who->dn[0] != '\0') {
		pil_json_string(json, "dn", who->dn);
		pil_json_string(json, "issuer", who->issuer);
		pil_json_string(json, "vo", who->vo);
		pil_json_string(json, "fqan", who->fqan[0]);
	}
	if (map->account[0] != '\0') {
		pil_json_string(json, "account", map->account);
		pil_json_int(json, "uid", map->uid);
		pil_json_int(json, "gid", map->gid);
		pil_json_string(json, "lease", map->lease);
		pil_json_string(json, "tracking", cgroup_tracking(run));
		pil_json_string(json, "isolation", isolate_name(run));
		if (run->missing[0] != '\0')
			pil_json_string(json, "missing", run->missing);
		audit_bounds(run, json);
	}
	if (run->options.command != NULL)
		pil_json_string(json, "command", run->options.command[0]);
}

/* The log daemon may be gone or slow; the file is what counts then. */
static int
write_log(const struct run *run, const struct pil_json *json)
{
	char packet[PIL_LINE_MAX + 64];
	int len;

	len = snprintf(packet, sizeof(packet), "<%d>pilotage-exec[%d]: %.*s",
	    LOG_PRIORITY, getpid(), (int)json->len - 1, json->buf);
	return send(run->audit_log, packet, (size_t)len,
	    MSG_DONTWAIT | MSG_NOSIGNAL) == len ? 0 : -1;
}

int
audit_write(const struct run *run, struct pil_json *json)
{
	size_t len = pil_json_close(json);
	int logged = -1;

	if (run->audit_log != -1)
		logged = write_log(run, json);
	if (run->audit_file != -1)
		return write(run->audit_file, json->buf, len) ==
		    (ssize_t)len ? 0 : -1;
	return logged;
}
