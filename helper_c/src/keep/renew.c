/*
 * A new proxy for a running payload: the same owner's, with the same or fewer
 * attributes, ending later; verified like the first one, and written with the
 * account's rights.
 */
#include <sys/stat.h>

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/sha256.h"
#include "base/text.h"
#include "keep/aide.h"
#include "keep/audit.h"
#include "keep/bounds.h"
#include "keep/renew.h"
#include "keep/rundir.h"
#include "keep/verifier.h"
#include "privsep/switch.h"
#include "privsep/sys.h"

#define WRITE_USEC	10000000

static int
read_sealed(int fd, struct proxy *proxy)
{
	struct stat st;

	if (fd == -1 || !sys_is_sealed(fd) ||
	    fstat(fd, &st) == -1 || st.st_size < 1 ||
	    st.st_size > PIL_INPUT_MAX)
		return -1;
	proxy->len = (size_t)st.st_size;
	if (pread(fd, proxy->pem, proxy->len, 0) != st.st_size)
		return -1;
	pil_sha256(proxy->pem, proxy->len, proxy->digest);
	return 0;
}

static int
has_fqan(const struct pil_identity *who, const char *fqan)
{
	uint32_t i;

	for (i = 0; i < who->fqan_count; i++)
		if (strcmp(who->fqan[i], fqan) == 0)
			return 1;
	return 0;
}

/* Until when is a proxy with attributes good for all that it can be used for? */
static int64_t
good_until(const struct pil_identity *who)
{
	return who->voms_not_after < who->not_after ? who->voms_not_after :
	    who->not_after;
}

/*
 * A successor ends later; or its attributes do, where those of the old one
 * end before it: they can be had anew while the proxy above them cannot.
 */
static int
lasts_longer(const struct pil_identity *old, const struct pil_identity *new)
{
	if (new->not_after > old->not_after)
		return 1;
	return old->voms_not_after != 0 && new->voms_not_after != 0 &&
	    good_until(new) > good_until(old);
}

/* What does not hold of the new one, as against the old? */
static const char *
compare(const struct pil_identity *old, const struct pil_identity *new)
{
	uint32_t i;

	if (strcmp(old->dn, new->dn) != 0)
		return "another owner";
	for (i = 0; i < new->fqan_count; i++)
		if (!has_fqan(old, new->fqan[i]))
			return "an attribute that the old one does not have";
	if ((old->flags & PIL_F_LIMITED) && !(new->flags & PIL_F_LIMITED))
		return "not limited, as the old one is";
	return lasts_longer(old, new) ? NULL :
	    "it does not end later than the old one";
}

/* The monitor waits for it, so that the payload must not be able to stop it. */
static int
write_it(const struct run *run, void *arg)
{
	const struct ids target = { run->map.uid, run->map.gid };

	if (sys_close_from(3) == -1 || switch_beside(&target) == -1)
		return 1;
	return rundir_renew(run, arg) == -1;
}

static enum pil_reason
judge(struct run *run, const struct proxy *proxy, struct pil_record *record,
    char *detail)
{
	enum pil_reason reason;
	const char *wrong;

	if ((reason = verifier_ask(run, proxy, record, detail)) != PIL_OK)
		return reason;
	reason = bounds_owner(run->caller, &record->who, detail);
	if (reason != PIL_OK)
		return reason;
	if ((wrong = compare(&run->record.who, &record->who)) == NULL)
		return PIL_OK;
	pil_detail(detail, "the new proxy: %s", wrong);
	return PIL_RENEWAL_REFUSED;
}

enum pil_reason
renew(struct run *run, int fd, char *detail)
{
	static char pem[PIL_INPUT_MAX];
	static struct pil_record record;
	struct proxy proxy = { .pem = pem };
	enum pil_reason reason;
	struct pil_json json;
	char hex[65];

	if (read_sealed(fd, &proxy) == -1 || run->options.no_target) {
		pil_detail(detail, run->options.no_target ?
		    "the payload has no proxy" : "not a sealed memory file");
		reason = PIL_PROXY_FILE_UNUSABLE;
	} else
		reason = judge(run, &proxy, &record, detail);
	audit_begin(run, &json, "RENEW");
	pil_hex(proxy.digest, sizeof(proxy.digest), hex);
	pil_json_string(&json, "new_proxy_sha256", hex);
	pil_json_string(&json, "reason",
	    reason != PIL_OK ? pil_reason_name(reason) : "");
	if (audit_write(run, &json) == -1)
		reason = PIL_AUDIT_UNAVAILABLE;
	if (reason == PIL_OK && (aide_start(run, &run->aide, write_it, &proxy) == -1 ||
	    aide_wait(run, &run->aide, sys_now_usec() + WRITE_USEC) != 0)) {
		pil_detail(detail, "it cannot be written in the run directory");
		reason = PIL_TARGET_PROXY_UNUSABLE;
	}
	if (reason == PIL_OK)
		run->record = record;
	explicit_bzero(pem, proxy.len);
	return reason;
}
