/*
 * A whole input, as PEM or as DER, against an empty CA directory: everything
 * up to the search for an anchor.
 */
#include <fcntl.h>
#include <stdlib.h>

#include "verify/core.h"

int	LLVMFuzzerTestOneInput(const uint8_t *, size_t);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static struct pil_identity who;
	static struct pil_dirs dirs = { -1, -1, 0, NULL };
	struct pil_verify_options opt = {
		.ca_dir = "/proc/self/fdinfo", .at = 1800000000,
		.skew = 300, .policy = PIL_P_REQUIRE_KEY
	};

	if (dirs.ca == -1 && pil_open_dirs(&opt, 0, NULL, &dirs) != PIL_OK)
		abort();
	/* Nothing is trusted, so nothing is ever taken; older proxies neither. */
	if (pil_verify_at(&opt, &dirs, 1, data, len, &who) == PIL_OK ||
	    pil_verify_at(&opt, &dirs, 0, data, len, &who) == PIL_OK)
		abort();
	opt.policy |= PIL_P_ACCEPT_OLD;
	if (pil_verify_at(&opt, &dirs, 1, data, len, &who) == PIL_OK)
		abort();
	return 0;
}
