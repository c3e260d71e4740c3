/*
 * A mapping as the record that pilotage-keep reads.
 */
#include <string.h>

#include "base/text.h"
#include "map/map.h"

/* What the monitor sends is sound; this catches a caller of another version. */
static int
sound(const struct pil_map_request *request)
{
	const struct pil_identity *who = &request->who;
	uint32_t i;

	if (memcmp(request->magic, PIL_MAP_MAGIC, 8) != 0 ||
	    memcmp(request->tail, PIL_MAP_MAGIC, 8) != 0 ||
	    request->version != PIL_MAP_VERSION ||
	    request->size != sizeof(*request) ||
	    who->fqan_count > PIL_FQAN_MAX ||
	    !pil_is_clean(who->dn, sizeof(who->dn)) ||
	    !pil_is_clean(request->expect, sizeof(request->expect)) ||
	    memchr(request->accounts, '\0', sizeof(request->accounts)) == NULL ||
	    memchr(request->command, '\0', sizeof(request->command)) == NULL)
		return 0;
	for (i = 0; i < who->fqan_count; i++)
		if (!pil_is_clean(who->fqan[i], sizeof(who->fqan[i])))
			return 0;
	return 1;
}

/* No byte of an earlier try stays behind the end of a string or a list. */
static void
copy(char *out, const char *from, size_t size)
{
	memcpy(out, from, strnlen(from, size - 1));
}

static void
fill(struct pil_mapping *out, const struct pil_mapping *map)
{
	copy(out->account, map->account, sizeof(out->account));
	copy(out->home, map->home, sizeof(out->home));
	copy(out->lease, map->lease, sizeof(out->lease));
	out->uid = map->uid;
	out->gid = map->gid;
	out->ngroups = map->ngroups;
	memcpy(out->groups, map->groups,
	    map->ngroups * sizeof(out->groups[0]));
}

int
pil_map_answer(const struct pil_map_config *config, enum pil_reason broken,
    const char *why, const struct pil_map_request *request,
    struct pil_map_record *record)
{
	struct pil_mapping map = { .account = "" };

	memset(record, 0, sizeof(*record));
	if (!sound(request))
		return -1;
	memcpy(record->magic, PIL_MAP_MAGIC, sizeof(record->magic));
	memcpy(record->tail, PIL_MAP_MAGIC, sizeof(record->tail));
	record->version = PIL_MAP_VERSION;
	record->size = sizeof(*record);
	memcpy(record->nonce, request->nonce, sizeof(record->nonce));
	pil_map_request_digest(request, record->digest);
	if (broken != PIL_OK)
		pil_detail(map.detail, "%s", why);
	record->reason = (int32_t)(broken != PIL_OK ? broken :
	    pil_map(config, request, &map));
	if (record->reason == PIL_OK)
		fill(&record->map, &map);
	else
		copy(record->map.detail, map.detail,
		    sizeof(record->map.detail));
	return 0;
}
