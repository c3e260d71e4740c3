/*
 * The verifier's answer, as a verifier that was taken over could write it: a
 * sound record with pieces of the input laid over it. What the check lets pass
 * must be safe for those who read it next.
 *
 * A piece: 3 bytes offset, 1 byte length, bytes.
 */
#include <string.h>

#include "keep/bounds.h"
#include "fuzz.h"

#define NOW	1800000000

static void
sound(struct pil_record *record)
{
	struct pil_identity *who = &record->who;

	memset(record, 0, sizeof(*record));
	memcpy(record->magic, PIL_RECORD_MAGIC, sizeof(record->magic));
	memcpy(record->tail, PIL_RECORD_MAGIC, sizeof(record->tail));
	record->version = PIL_RECORD_VERSION;
	record->size = sizeof(*record);
	who->flags = PIL_F_PROXY | PIL_F_KEY | PIL_F_VOMS;
	who->depth = who->fqan_count = 1;
	who->not_before = NOW - 60;
	who->not_after = who->voms_not_after = NOW + 3600;
	(void)strcpy(who->dn, "/O=Toy Grid/CN=alice");
	(void)strcpy(who->issuer, "/O=Toy Grid/CN=Toy Grid CA");
	(void)strcpy(who->vo, "demo");
	(void)strcpy(who->fqan[0], "/demo/Role=analysis");
}

static void
use(const struct pil_identity *who)
{
	static const struct caller caller = {
		.name = "pilot", .vos = "demo", .fqans = "/demo", .accounts = "*"
	};
	char detail[PIL_DETAIL_SIZE];
	uint32_t i;

	fuzz_is_text(who->detail, sizeof(who->detail));
	if (who->reason != PIL_OK) {
		MUST(who->reason >= 200 && who->reason < 400);
		MUST(who->dn[0] == '\0' && who->fqan_count == 0);
		return;
	}
	fuzz_is_text(who->dn, sizeof(who->dn));
	fuzz_is_text(who->issuer, sizeof(who->issuer));
	fuzz_is_text(who->vo, sizeof(who->vo));
	MUST(who->dn[0] == '/' && who->depth <= PIL_DEPTH_MAX);
	MUST(who->fqan_count <= PIL_FQAN_MAX);
	MUST(who->not_after > NOW - 300 && who->not_before <= NOW + 300);
	for (i = 0; i < who->fqan_count; i++) {
		fuzz_is_text(who->fqan[i], sizeof(who->fqan[i]));
		MUST(who->fqan[i][0] == '/');
	}
	(void)bounds_owner(&caller, who, detail);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static const struct pil_request request = {
		.skew = 300, .policy = PIL_P_REQUIRE_KEY | PIL_P_REQUIRE_PROXY
	};
	static const uint8_t digest[32];
	static struct pil_record record;
	size_t at, n;

	sound(&record);
	while (len > 4) {
		at = ((size_t)data[0] << 16 | (size_t)data[1] << 8 | data[2]) %
		    sizeof(record);
		n = data[3];
		data += 4;
		len -= 4;
		if (n > len)
			n = len;
		if (n > sizeof(record) - at)
			n = sizeof(record) - at;
		memcpy((char *)&record + at, data, n);
		data += n;
		len -= n;
	}
	if (pil_record_check(&record, sizeof(record) - len, &request, digest,
	    NOW) == PIL_OK)
		use(&record.who);
	return 0;
}
