/*
 * Who the owner is and which account that makes: two programs are asked, and
 * what each answers is bounded.
 */
#include <string.h>
#include <unistd.h>

#include "keep/audit.h"
#include "keep/bounds.h"
#include "keep/mapper.h"
#include "keep/owner.h"
#include "keep/tell.h"
#include "keep/verifier.h"

static void
ask(struct run *run, const struct proxy *proxy, struct pil_record *record)
{
	char detail[PIL_DETAIL_SIZE];
	enum pil_reason reason;

	if ((reason = verifier_ask(run, proxy, record, detail)) != PIL_OK)
		refuse(run, reason, "%s", detail);
}

/*
 * Loading the mapper and closing its sandbox take as long as mapping, and both
 * can be done while the verifier works. Until it is asked it only reads the
 * site's configuration, and the verifier starts its library; a refusal ends both.
 */
void
owner_begin(struct run *run)
{
	char detail[PIL_DETAIL_SIZE];
	enum pil_reason reason;

	if ((reason = verifier_begin(run, detail)) != PIL_OK ||
	    (reason = mapper_begin(run, detail)) != PIL_OK)
		refuse(run, reason, "%s", detail);
}

/* A second proxy for the payload is the same owner's, or it is not handed on. */
void
owner_identify(struct run *run)
{
	static struct pil_record second;
	char detail[PIL_DETAIL_SIZE];
	enum pil_reason reason;

	ask(run, &run->proxy, &run->record);
	reason = bounds_owner(run->caller, &run->record.who, detail);
	if (reason != PIL_OK)
		refuse(run, reason, "%s", detail);
	run->owner_decision = PERMIT_OWNER;
	if (run->source.len == 0)
		return;
	ask(run, &run->source, &second);
	if (strcmp(run->record.who.dn, second.who.dn) != 0)
		refuse(run, PIL_PROXY_FILE_UNUSABLE, "--source-proxy is "
		    "another owner's: %s", second.who.dn);
}

/* Verb map: what a run would become; nothing is leased. */
static void __attribute__((noreturn))
answer_map(struct run *run)
{
	struct pil_json json;
	size_t len;

	pil_json_open(&json);
	pil_json_string(&json, "event", "map");
	audit_mode(run, &json);
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

void
owner_map(struct run *run)
{
	char detail[PIL_DETAIL_SIZE];
	enum pil_reason reason;

	if ((reason = mapper_ask(run, detail)) != PIL_OK)
		refuse(run, reason, "%s", detail);
	run->account_decision = PERMIT_ACCOUNT;
	if (run->options.verb == VERB_MAP)
		answer_map(run);
}
