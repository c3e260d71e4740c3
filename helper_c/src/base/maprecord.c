/*
 * Questions to pilotage-map, and what is believed of its answers. The code
 * that looks accounts up may load the site's modules and so may be anybody's;
 * these bounds hold whatever it says.
 */
#include <sys/random.h>

#include <stddef.h>
#include <string.h>
#include <time.h>

#include "base/sha256.h"
#include "base/text.h"
#include "base/words.h"
#include "pilotage/map.h"

int
pil_is_special(uint32_t id)
{
	/*
	 * Ids that mean "nobody" or "no change" somewhere are no accounts;
	 * 65534 is what the kernel shows for every id that has no mapping.
	 */
	return id == 0 || id == 65534 || id >= (uint32_t)-2;
}

int
pil_map_request_init(struct pil_map_request *request)
{
	memset(request, 0, sizeof(*request));
	memcpy(request->magic, PIL_MAP_MAGIC, sizeof(request->magic));
	memcpy(request->tail, PIL_MAP_MAGIC, sizeof(request->tail));
	request->version = PIL_MAP_VERSION;
	request->size = sizeof(*request);
	request->caller = request->caller_gid = PIL_NO_ID;
	request->verifier_uid = request->verifier_gid = PIL_NO_ID;
	request->at = time(NULL);
	return getrandom(request->nonce, sizeof(request->nonce), 0) ==
	    sizeof(request->nonce) ? 0 : -1;
}

/* Behind the FQANs there is nothing but the tail, which is looked at itself. */
_Static_assert(offsetof(struct pil_identity, fqan) + sizeof(((struct
    pil_identity *)0)->fqan) == sizeof(struct pil_identity) &&
    offsetof(struct pil_map_request, who) + sizeof(struct pil_identity) ==
    offsetof(struct pil_map_request, tail), "the digest leaves more out");

/*
 * The FQANs stand last and most of them are not there: digesting 64 kB of
 * zeros on both sides took longer than the mapping.
 */
void
pil_map_request_digest(const struct pil_map_request *request,
    uint8_t digest[32])
{
	size_t count = request->who.fqan_count < PIL_FQAN_MAX ?
	    request->who.fqan_count : PIL_FQAN_MAX;

	pil_sha256(request, offsetof(struct pil_map_request, who.fqan) +
	    count * PIL_NAME_SIZE, digest);
}

static int
envelope(const struct pil_map_record *record,
    const struct pil_map_request *request)
{
	uint8_t digest[32];

	pil_map_request_digest(request, digest);
	return memcmp(record->magic, PIL_MAP_MAGIC, 8) == 0 &&
	    memcmp(record->tail, PIL_MAP_MAGIC, 8) == 0 &&
	    record->version == PIL_MAP_VERSION &&
	    record->size == sizeof(*record) &&
	    memcmp(record->nonce, request->nonce, 16) == 0 &&
	    memcmp(record->digest, digest, 32) == 0;
}

/* A refusal is one of mapping's own, and carries nothing that could be used. */
static int
refusal(const struct pil_map_record *record)
{
	struct pil_mapping rest = record->map;

	if (record->reason < 400 || record->reason >= 600 || strcmp(
	    pil_reason_name((enum pil_reason)record->reason), "UNKNOWN") == 0)
		return 0;
	memset(rest.detail, 0, sizeof(rest.detail));
	return pil_is_zero(&rest, sizeof(rest));
}

static int
group(uint32_t gid, const struct pil_map_request *request)
{
	return !pil_is_special(gid) && gid >= request->min_gid &&
	    gid != request->caller_gid && gid != request->verifier_gid;
}

static int
groups(const struct pil_mapping *map, const struct pil_map_request *request)
{
	uint32_t i;

	if (map->ngroups > PIL_GROUPS_MAX || !group(map->gid, request))
		return 0;
	for (i = 0; i < map->ngroups; i++)
		if (!group(map->groups[i], request))
			return 0;
	return pil_is_zero(map->groups + i,
	    (PIL_GROUPS_MAX - i) * sizeof(map->groups[0]));
}

static int
account(const struct pil_mapping *map, const struct pil_map_request *request)
{
	return pil_is_account(map->account, strlen(map->account)) &&
	    !pil_is_special(map->uid) && map->uid >= request->min_uid &&
	    map->uid != request->caller && map->uid != request->verifier_uid &&
	    (request->accounts[0] == '\0' || pil_word_in(request->accounts,
	    map->account, pil_account_bound)) &&
	    (request->expect[0] == '\0' ||
	    strcmp(request->expect, map->account) == 0);
}

enum pil_reason
pil_map_record_check(const struct pil_map_record *record, size_t received,
    const struct pil_map_request *request)
{
	const struct pil_mapping *map = &record->map;

	if (received != sizeof(*record) || !envelope(record, request) ||
	    !pil_is_clean(map->detail, sizeof(map->detail)))
		return PIL_MAPPER_RECORD;
	if (record->reason != PIL_OK)
		return refusal(record) ? PIL_OK : PIL_MAPPER_RECORD;
	if (!pil_is_clean(map->account, sizeof(map->account)) ||
	    !pil_is_clean(map->lease, sizeof(map->lease)) ||
	    !pil_is_clean(map->home, sizeof(map->home)) ||
	    map->home[0] != '/' || strchr(map->lease, '/') != NULL)
		return PIL_MAPPER_RECORD;
	return account(map, request) && groups(map, request) ? PIL_OK :
	    PIL_MAPPER_RECORD;
}
