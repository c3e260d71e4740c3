/* Notes in a gridmapdir: whose a lease is, and which accounts are free. */
#include <string.h>

#include "base/words.h"
#include "fuzz.h"
#include "map/leasename.h"
#include "map/note.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	char *text = fuzz_string(data, len), *again = fuzz_string(data, len);
	struct pil_note note;
	struct pil_free list;
	size_t i;

	if (pil_note_parse(text, &note)) {
		MUST(pil_is_account(note.account, strlen(note.account)));
		MUST(note.lease[0] == '%' && strchr(note.lease, '\n') == NULL);
		MUST(strlen(note.owner) == 64);
	}
	pil_free_parse(again, "demo", &list);
	MUST(list.n <= PIL_FREE_MAX);
	for (i = 0; i < list.n; i++) {
		MUST(pil_in_pool(list.name[i], "demo"));
		MUST(pil_is_account(list.name[i], strlen(list.name[i])));
		MUST(i == 0 || pil_by_number(list.name[i - 1],
		    list.name[i]) <= 0);
	}
	free(text);
	free(again);
	return 0;
}
