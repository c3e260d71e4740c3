/*
 * Filters of system calls, run here as the kernel runs them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <sys/syscall.h>

#include <limits.h>
#include <linux/audit.h>
#include <linux/seccomp.h>

#include "sandbox/filter.h"

#if defined(__x86_64__)
#define OURS	AUDIT_ARCH_X86_64
#else
#define OURS	AUDIT_ARCH_AARCH64
#endif
#define OTHER	AUDIT_ARCH_I386

#define RETURN(what)	BPF_STMT(BPF_RET | BPF_K, (what))

static const struct pil_answer yes = { { RETURN(1) }, 1 };
static const struct pil_answer no = { { RETURN(2) }, 1 };
/* Only when the first argument has a bit. */
static const struct pil_answer bit = { {
	BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data,
	    args[0])),
	BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, 4, 1, 0),
	RETURN(3),
	RETURN(4),
}, 4 };

static struct sock_filter code[PIL_FILTER_MAX];
static unsigned short	 length;

/* The answer; steps are counted, since a filter only ever goes forward. */
static unsigned int
ask(unsigned int arch, unsigned int number, unsigned int argument)
{
	struct seccomp_data data = { .nr = (int)number, .arch = arch,
	    .args = { argument } };
	unsigned int value = 0, at, yes_or_no;

	for (at = 0; at < length; at++)
		switch (code[at].code) {
		case BPF_LD | BPF_W | BPF_ABS:
			memcpy(&value, (const char *)&data + code[at].k, 4);
			break;
		case BPF_JMP | BPF_JEQ | BPF_K:
			yes_or_no = value == code[at].k;
			at += yes_or_no ? code[at].jt : code[at].jf;
			break;
		case BPF_JMP | BPF_JGE | BPF_K:
			yes_or_no = value >= code[at].k;
			at += yes_or_no ? code[at].jt : code[at].jf;
			break;
		case BPF_JMP | BPF_JSET | BPF_K:
			yes_or_no = (value & code[at].k) != 0;
			at += yes_or_no ? code[at].jt : code[at].jf;
			break;
		case BPF_RET | BPF_K:
			return code[at].k;
		default:
			fail_msg("instruction %u is unknown", at);
		}
	fail_msg("number %u has no answer", number);
	return 0;
}

static void
test_each_number_has_its_own_answer(void **state)
{
	struct pil_call calls[] = {
		{ 60, 60, &yes }, { 3, 3, &yes }, { 4, 4, &yes },
		{ 0, 0, &yes }, { 5, 5, &bit }, { 9, 9, &yes },
		{ 200, 210, &yes }, { 211, 211, &no },
		{ 0x40000000, UINT_MAX, &yes },
	};
	const size_t n = sizeof(calls) / sizeof(calls[0]);
	unsigned int number, wanted;
	size_t i;

	(void)state;
	length = pil_filter(code, calls, n, &no);
	assert_int_not_equal(length, 0);
	for (number = 0; number < 1000; number++) {
		wanted = 2;
		for (i = 0; i < n; i++)
			if (calls[i].first <= number &&
			    number <= calls[i].last &&
			    calls[i].answer == &yes)
				wanted = 1;
		if (number == 5)
			wanted = 3;
		assert_int_equal(ask(OURS, number, 3), wanted);
	}
	assert_int_equal(ask(OURS, 5, 4), 4);
	assert_int_equal(ask(OURS, 0x3fffffff, 0), 2);
	assert_int_equal(ask(OURS, 0x40000000, 0), 1);
	assert_int_equal(ask(OURS, UINT_MAX, 0), 1);
}

static void
test_another_architecture_kills_whatever_the_number(void **state)
{
	struct pil_call calls[] = { { 1, 1, &yes } };
	unsigned int number;

	(void)state;
	length = pil_filter(code, calls, 1, &yes);
	for (number = 0; number < 10; number++) {
		assert_int_equal(ask(OTHER, number, 0),
		    SECCOMP_RET_KILL_PROCESS);
		assert_int_equal(ask(OURS, number, 0), 1);
	}
}

/* Eighty numbers that do not touch: what the mapper's list is at worst. */
static void
test_eighty_lone_numbers_fit(void **state)
{
	struct pil_call calls[PIL_FILTER_CALLS + 1];
	unsigned int i;

	(void)state;
	for (i = 0; i < PIL_FILTER_CALLS + 1; i++)
		calls[i] = (struct pil_call){ 3 * i + 1, 3 * i + 1, &no };
	length = pil_filter(code, calls, 80, &yes);
	assert_int_not_equal(length, 0);
	for (i = 0; i < 400; i++)
		assert_int_equal(ask(OURS, i, 0),
		    i < 240 && i % 3 == 1 ? 2 : 1);
	/* What does not fit is no filter, never half a one. */
	assert_int_equal(pil_filter(code, calls, PIL_FILTER_CALLS, &yes), 0);
	assert_int_equal(pil_filter(code, calls, PIL_FILTER_CALLS + 1, &yes),
	    0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_each_number_has_its_own_answer),
		cmocka_unit_test(
		    test_another_architecture_kills_whatever_the_number),
		cmocka_unit_test(test_eighty_lone_numbers_fit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
