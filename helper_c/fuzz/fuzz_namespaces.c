/* A namespaces file, and what must hold of every answer about it. */
#include "fuzz.h"
#include "verify/core.h"

#define CA	"/O=x/CN=CA"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static const char *const names[] = { CA, "/O=x/CN=a.b", "" };
	char *text = fuzz_string(data, len);
	unsigned fault = pil_namespaces_fault(text, len), line, lines = 1;
	enum pil_said own, above;
	size_t i;

	for (i = 0; i < len; i++)
		lines += text[i] == '\n';
	MUST(fault <= lines);
	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		own = pil_namespaces_say(text, len, CA, names[i], 1, &line);
		above = pil_namespaces_say(text, len, CA, names[i], 0, &line);
		/* A file is malformed for everybody or for nobody. */
		MUST((own == PIL_SAID_MALFORMED) == (fault != 0));
		MUST((above == PIL_SAID_MALFORMED) == (fault != 0));
		/* An authority above says no more than the own: SELF. */
		MUST(own != PIL_SAID_NOTHING || above == PIL_SAID_NOTHING);
	}
	free(text);
	return 0;
}
