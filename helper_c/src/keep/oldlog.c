/*
 * gLExec's and LCMAPS's lines in the form that sites' tools know: accounting
 * took jobs and seconds from those of glexec.mon. They say less than our own
 * log and are written beside it, never instead of it.
 *
 * What a certificate or a caller says cannot end a line, leave its quotes or
 * make a line longer than the bounds below; one write() takes one line.
 */
#include <sys/socket.h>
#include <sys/utsname.h>

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/text.h"
#include "keep/audit.h"
#include "keep/lines.h"
#include "keep/local.h"
#include "keep/oldlog.h"

#define OLD_PRIORITY	29	/* daemon.notice, gLExec's own */
#define NAME_BOUND	1100	/* a DN whole, unless it is full of quotes */
#define TEXT_BOUND	600	/* a path, all arguments */

struct text {
	char	 buf[PIL_LINE_MAX];
	size_t	 len;
};

static void put(struct text *, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/* The bounds of the parts keep every line far from the end of the buffer. */
static void
put(struct text *text, const char *fmt, ...)
{
	size_t room = sizeof(text->buf) - text->len;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(text->buf + text->len, room, fmt, ap);
	va_end(ap);
	if (n > 0)
		text->len += (size_t)n < room ? (size_t)n : room - 1;
}

/*
 * At most bound bytes, without anything that could be taken for structure: no
 * quote, and no bracket, because readers look for "glexec.mon[" in the whole
 * line.
 */
static void
put_free(struct text *text, const char *value, size_t bound)
{
	size_t end = text->len + bound;

	for (; *value != '\0'; value++) {
		unsigned char c = (unsigned char)*value;

		if (text->len + 4 > end) {
			put(text, "...");
			return;
		}
		if (c < ' ' || c > '~' || c == '"' || c == '[')
			put(text, "\\x%02X", c);
		else
			put(text, "%c", c);
	}
}

static void
put_quoted(struct text *text, const char *name, const char *value, size_t bound)
{
	put(text, "%s\"", name);
	put_free(text, value, bound);
	put(text, "\"");
}

/* As a log daemon would have stamped it, in the machine's own time. */
static void
put_stamp(struct text *text)
{
	time_t now = time(NULL);
	char stamp[32] = "";
	struct utsname host;
	struct tm tm;

	if (uname(&host) == -1 || host.nodename[0] == '\0')
		(void)strcpy(host.nodename, "localhost");
	if (localtime_r(&now, &tm) != NULL)
		(void)strftime(stamp, sizeof(stamp), "%b %e %T", &tm);
	put(text, "%s ", stamp);
	put_free(text, host.nodename, sizeof(host.nodename));
	put(text, " ");
}

/* Each place that is configured takes the line whole, or it is an error. */
static int
emit(const struct run *run, const struct text *line)
{
	struct text out = { .len = 0 };
	int taken = 0;

	if (run->old_log != -1) {
		put(&out, "<%d>%s", OLD_PRIORITY, line->buf);
		if (send(run->old_log, out.buf, out.len, MSG_DONTWAIT |
		    MSG_NOSIGNAL) != (ssize_t)out.len)
			taken = -1;
	}
	if (run->old_file == -1)
		return taken;
	out.len = 0;
	put_stamp(&out);
	put(&out, "%s\n", line->buf);
	return write(run->old_file, out.buf, out.len) == (ssize_t)out.len ?
	    taken : -1;
}

static void
begin(struct text *line, const struct run *run, const char *who)
{
	line->len = 0;
	if (strcmp(who, "glexec.mon") == 0)
		put(line, "%s[%d#%d]: ", who, getpid(), run->pid);
	else if (strcmp(who, "glexec") == 0)
		put(line, "%s[%d]: ", who, run->pid);
	else
		put(line, "glexec: %s: ", who);
}

static int
emit_mapping(const struct run *run)
{
	const struct pil_identity *who = &run->record.who;
	const struct pil_mapping *map = run->named;
	char group[PIL_ACCOUNT_SIZE];
	struct text line;
	uint32_t i;

	begin(&line, run, "lcmaps");
	put_quoted(&line, "LCMAPS CRED FINAL: DN:", who->dn, NAME_BOUND);
	put(&line, "->mapped uid:'%u',pgid:'%u'", map->uid, map->gid);
	for (i = 0; i < map->ngroups; i++)
		put(&line, ",sgid:'%u'", map->groups[i]);
	if (emit(run, &line) == -1)
		return -1;
	if (who->fqan_count == 0)
		return 0;
	local_group(map->gid, group, sizeof(group));
	begin(&line, run, "lcmaps");
	put_quoted(&line, "LCMAPS CRED FINAL: FQAN:", who->fqan[0], NAME_BOUND);
	put(&line, "->mapped group:%u(%s)", map->gid, group);
	return emit(run, &line);
}

static void
put_arguments(struct text *line, char **command)
{
	size_t end = line->len + TEXT_BOUND;

	put(line, " args: \"");
	for (; command != NULL && *command != NULL; command++) {
		if (line->len >= end) {
			put(line, " ...");
			break;
		}
		put_free(line, *command, end - line->len);
		put(line, command[1] != NULL ? " " : "");
	}
	put(line, "\"");
}

static int
emit_call(const struct run *run)
{
	char **command = run->options.command;
	char group[PIL_ACCOUNT_SIZE];
	struct text line;

	begin(&line, run, "glexec");
	local_group(run->pilot.gid, group, sizeof(group));
	put(&line, "real_user(%s),real_group(%s)->", run->caller_name, group);
	local_group(run->named->gid, group, sizeof(group));
	put(&line, "mapped_user(%s),mapped_group(%s)", run->named->account, group);
	put_quoted(&line, " cwd: ", run->old_cwd, TEXT_BOUND);
	/* Links are refused, so what was given is what is executed. */
	put_quoted(&line, " cmd: ", command ? command[0] : "", TEXT_BOUND);
	put_quoted(&line, " (=", command ? command[0] : "", TEXT_BOUND);
	put(&line, ")");
	put_arguments(&line, command != NULL ? command + 1 : NULL);
	if (run->options.job_id[0] != '\0')
		put_quoted(&line, " id: ", run->options.job_id, TEXT_BOUND);
	return emit(run, &line);
}

/* A reader takes what follows the last blank for the number. */
static int
emit_monitor(const struct run *run)
{
	const struct pil_identity *who = &run->record.who;
	struct text line;

	begin(&line, run, "glexec.mon");
	put(&line, "Started, target uid %u", run->named->uid);
	if (emit(run, &line) == -1)
		return -1;
	begin(&line, run, "glexec.mon");
	put_quoted(&line, "Used DN: ", who->dn, NAME_BOUND);
	if (emit(run, &line) == -1)
		return -1;
	if (who->fqan_count == 0)
		return 0;
	begin(&line, run, "glexec.mon");
	put_quoted(&line, "Used VO: ", who->vo, NAME_BOUND);
	put_quoted(&line, " Issuer: ", who->issuer, NAME_BOUND);
	if (emit(run, &line) == -1)
		return -1;
	begin(&line, run, "glexec.mon");
	put_quoted(&line, "Used FQAN: ", who->fqan[0], NAME_BOUND);
	return emit(run, &line);
}

int
oldlog_open(struct run *run, char *detail)
{
	const char *path = run->config.old_file;

	if (getcwd(run->old_cwd, sizeof(run->old_cwd)) == NULL)
		(void)strcpy(run->old_cwd, "?");
	if (run->config.old_log) {
		run->old_log = audit_daemon();
		if (run->old_log == -1) {
			pil_detail(detail, "legacy_log: no log daemon");
			return -1;
		}
	}
	if (path == NULL)
		return 0;
	run->old_file = lines_open(path, detail);
	return run->old_file == -1 ? -1 : 0;
}

int
oldlog_begin(struct run *run)
{
	if (run->old_log == -1 && run->old_file == -1)
		return 0;
	if (emit_mapping(run) == -1 || emit_call(run) == -1)
		return -1;
	if (run->options.command == NULL)
		return 0;
	/* Whoever has read the first line waits for the last. */
	run->old_begun = 1;
	return emit_monitor(run);
}

int
oldlog_end(const struct run *run)
{
	struct text line;

	if (!run->old_begun)
		return 0;
	begin(&line, run, "glexec.mon");
	put(&line, "Terminated, CPU user %lld system %lld",
	    run->usage.user_usec / 1000000, run->usage.system_usec / 1000000);
	return emit(run, &line);
}
