/*
 * The monitor believes no byte of the verifier's answer before this
 * (CVE-2015-6563: a monitor that believed its child).
 */
#include <string.h>

#include "base/text.h"
#include "pilotage/record.h"

static int
envelope(const struct pil_record *record, const struct pil_request *request,
    const uint8_t digest[32])
{
	return memcmp(record->magic, PIL_RECORD_MAGIC, 8) == 0 &&
	    memcmp(record->tail, PIL_RECORD_MAGIC, 8) == 0 &&
	    record->version == PIL_RECORD_VERSION &&
	    record->size == sizeof(*record) &&
	    memcmp(record->nonce, request->nonce, 16) == 0 &&
	    memcmp(record->digest, digest, 32) == 0;
}

/* A refusal carries its reason and words, and nothing that could be used. */
static int
refusal(const struct pil_identity *who)
{
	struct pil_identity rest = *who;

	if (who->reason < 200 || who->reason >= 400 || strcmp(
	    pil_reason_name((enum pil_reason)who->reason), "UNKNOWN") == 0)
		return 0;
	rest.reason = 0;
	memset(rest.detail, 0, sizeof(rest.detail));
	return pil_is_zero(&rest, sizeof(rest));
}

static int
flags(const struct pil_identity *who, uint32_t policy)
{
	uint32_t known = PIL_F_PROXY | PIL_F_LIMITED | PIL_F_KEY | PIL_F_VOMS;
	int proxy = (who->flags & PIL_F_PROXY) != 0;

	if ((who->flags & ~known) != 0 || who->depth > PIL_DEPTH_MAX ||
	    proxy != (who->depth > 0))
		return 0;
	if (!proxy && (who->flags & PIL_F_LIMITED) != 0)
		return 0;
	if ((policy & PIL_P_REQUIRE_PROXY) != 0 && !proxy)
		return 0;
	if ((policy & PIL_P_REQUIRE_KEY) != 0 && !(who->flags & PIL_F_KEY))
		return 0;
	return !(policy & PIL_P_REFUSE_LIMITED) ||
	    !(who->flags & PIL_F_LIMITED);
}

static int
attributes(const struct pil_identity *who, int64_t earliest)
{
	size_t len = strlen(who->vo), i;

	if (!(who->flags & PIL_F_VOMS))
		return who->fqan_count == 0 && who->voms_not_after == 0 &&
		    len == 0 && pil_is_zero(who->fqan, sizeof(who->fqan));
	if (who->fqan_count == 0 || who->fqan_count > PIL_FQAN_MAX ||
	    who->voms_not_after <= earliest || len == 0)
		return 0;
	for (i = 0; i < PIL_FQAN_MAX; i++) {
		const char *fqan = who->fqan[i];

		if (!pil_is_clean(fqan, PIL_NAME_SIZE) ||
		    fqan[0] != (i < who->fqan_count ? '/' : '\0'))
			return 0;
	}
	/* The VO is the first component of the first FQAN. */
	return strncmp(who->fqan[0] + 1, who->vo, len) == 0 &&
	    (who->fqan[0][len + 1] == '\0' || who->fqan[0][len + 1] == '/');
}

enum pil_reason
pil_record_check(const struct pil_record *record, size_t received,
    const struct pil_request *request, const uint8_t digest[32], int64_t now)
{
	const struct pil_identity *who = &record->who;
	int64_t skew = request->skew;

	if (received != sizeof(*record) || !envelope(record, request, digest))
		return PIL_VERIFIER_RECORD;
	if (!pil_is_clean(who->detail, sizeof(who->detail)))
		return PIL_VERIFIER_RECORD;
	if (who->reason != PIL_OK)
		return refusal(who) ? PIL_OK : PIL_VERIFIER_RECORD;
	if (!pil_is_clean(who->dn, sizeof(who->dn)) || who->dn[0] != '/' ||
	    !pil_is_clean(who->issuer, sizeof(who->issuer)) || who->issuer[0] != '/' ||
	    !pil_is_clean(who->vo, sizeof(who->vo)) || !flags(who, request->policy))
		return PIL_VERIFIER_RECORD;
	if (who->not_before >= who->not_after ||
	    who->not_before > now + skew || who->not_after <= now - skew)
		return PIL_VERIFIER_RECORD;
	if (!attributes(who, now - skew))
		return PIL_VERIFIER_RECORD;
	return PIL_OK;
}
