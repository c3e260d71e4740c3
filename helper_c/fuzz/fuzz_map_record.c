/*
 * The mapper's answer, as a name service module that was taken over could
 * write it: a sound record with pieces of the input laid over it. What the
 * check lets pass must be an account that this caller may have.
 *
 * A piece: 2 bytes offset, 1 byte length, bytes.
 */
#include <string.h>

#include "base/sha256.h"

/* The request is always the same one; its 75 KiB need no hashing each time. */
static void
digest_of_request(const void *request, size_t len, uint8_t out[32])
{
	(void)request;
	memset(out, (int)len & 0xff, 32);
}

#define pil_sha256	digest_of_request
#include "base/maprecord.c"

#include "fuzz.h"

#define CALLER		1500u
#define VERIFIER	990u
#define LEAST		1000u

static void
sound(struct pil_map_request *request, struct pil_map_record *record)
{
	memset(request, 0, sizeof(*request));
	request->min_uid = request->min_gid = LEAST;
	request->caller = CALLER;
	request->verifier_uid = request->verifier_gid = VERIFIER;
	(void)strcpy(request->accounts, "pool* extra");
	memset(record, 0, sizeof(*record));
	memcpy(record->magic, PIL_MAP_MAGIC, sizeof(record->magic));
	memcpy(record->tail, PIL_MAP_MAGIC, sizeof(record->tail));
	record->version = PIL_MAP_VERSION;
	record->size = sizeof(*record);
	pil_sha256(request, sizeof(*request), record->digest);
	(void)strcpy(record->map.account, "pool01");
	(void)strcpy(record->map.home, "/home/pool01");
	record->map.uid = record->map.gid = record->map.groups[0] = 2001;
	record->map.ngroups = 1;
}

static void
use(const struct pil_map_record *record)
{
	const struct pil_mapping *map = &record->map;
	uint32_t i;

	fuzz_is_text(map->detail, sizeof(map->detail));
	if (record->reason != PIL_OK) {
		MUST(record->reason >= 400 && record->reason < 600);
		MUST(map->account[0] == '\0' && map->uid == 0);
		return;
	}
	fuzz_is_text(map->account, sizeof(map->account));
	fuzz_is_text(map->home, sizeof(map->home));
	fuzz_is_text(map->lease, sizeof(map->lease));
	MUST(strncmp(map->account, "pool", 4) == 0 ||
	    strcmp(map->account, "extra") == 0);
	MUST(strchr(map->account, '/') == NULL && map->home[0] == '/');
	MUST(strchr(map->lease, '/') == NULL);
	MUST(map->uid >= LEAST && map->uid != CALLER && map->uid != VERIFIER);
	MUST(!pil_is_special(map->uid) && !pil_is_special(map->gid));
	MUST(map->gid >= LEAST && map->ngroups <= PIL_GROUPS_MAX);
	for (i = 0; i < map->ngroups; i++)
		MUST(map->groups[i] >= LEAST &&
		    !pil_is_special(map->groups[i]));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static struct pil_map_request request;
	static struct pil_map_record record;
	size_t at, n;

	sound(&request, &record);
	while (len > 3) {
		at = ((size_t)data[0] << 8 | data[1]) % sizeof(record);
		n = data[2];
		data += 3;
		len -= 3;
		if (n > len)
			n = len;
		if (n > sizeof(record) - at)
			n = sizeof(record) - at;
		memcpy((char *)&record + at, data, n);
		data += n;
		len -= n;
	}
	if (pil_map_record_check(&record, sizeof(record) - len, &request) ==
	    PIL_OK)
		use(&record);
	return 0;
}
