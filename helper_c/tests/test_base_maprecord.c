/*
 * The digest of a question to the mapper covers every byte that it says.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "pilotage/map.h"

static struct pil_map_request request, changed;

/* The magic at the end is compared, and a count is followed, not digested. */
static void
each_byte_that_is_said_is_digested(void **state)
{
	const size_t said = offsetof(struct pil_map_request, who.fqan) +
	    2 * sizeof(request.who.fqan[0]);
	const size_t count = offsetof(struct pil_map_request, who.fqan_count);
	uint8_t before[32], after[32];
	size_t i;

	(void)state;
	assert_int_equal(pil_map_request_init(&request), 0);
	request.who.fqan_count = 2;
	pil_map_request_digest(&request, before);
	for (i = 0; i < sizeof(request); i++) {
		if (i >= count && i < count + sizeof(uint32_t))
			continue;
		changed = request;
		((uint8_t *)&changed)[i] ^= 0x40;
		pil_map_request_digest(&changed, after);
		if ((memcmp(before, after, sizeof(after)) != 0) != (i < said))
			fail_msg("byte %zu of %zu", i, sizeof(request));
		/* The rest is the same for thousands of bytes. */
		if (i > said + 300 && i < sizeof(request) - 300)
			i = sizeof(request) - 300;
	}
}

static void
another_number_of_attributes_is_another_question(void **state)
{
	uint8_t two[32], three[32], many[32], most[32];

	(void)state;
	assert_int_equal(pil_map_request_init(&request), 0);
	request.who.fqan_count = 2;
	pil_map_request_digest(&request, two);
	request.who.fqan_count = 3;
	pil_map_request_digest(&request, three);
	assert_memory_not_equal(two, three, sizeof(two));
	/* A count that cannot be does not lead out of the request. */
	request.who.fqan_count = PIL_FQAN_MAX;
	pil_map_request_digest(&request, most);
	request.who.fqan_count = UINT32_MAX;
	pil_map_request_digest(&request, many);
	assert_memory_not_equal(most, many, sizeof(most));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_byte_that_is_said_is_digested),
		cmocka_unit_test(another_number_of_attributes_is_another_question),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
