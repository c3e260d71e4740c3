/*
 * The table of remembered chains, on real certificates: what is found, what is
 * given up for want of room, and that threads do not harm each other.
 */
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "pilotage/cache.h"

#define USERS	12
#define BORN	((int64_t)1700000000)	/* of every certificate */
#define LIFE	86400
#define NOW	(BORN + 3600)
#define SKEW	300

static char folder[PATH_MAX], anchor[PATH_MAX];
static struct pil_verify_options opt;
static struct {
	unsigned char	*der;
	size_t		 len;
} user[USERS];

static int	 clocks;	/* how often anybody asked for the time */

/* Files that were made just now are old by a clock that goes before. */
int
clock_gettime(clockid_t clock, struct timespec *out)
{
	int result = (int)syscall(SYS_clock_gettime, clock, out);

	if (clock == CLOCK_REALTIME) {
		out->tv_sec += 5;
		(void)__atomic_fetch_add(&clocks, 1, __ATOMIC_RELAXED);
	}
	return result;
}

int
gettimeofday(struct timeval *restrict out, void *restrict zone)
{
	(void)__atomic_fetch_add(&clocks, 1, __ATOMIC_RELAXED);
	return (int)syscall(SYS_gettimeofday, out, zone);
}

time_t
time(time_t *out)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_REALTIME, &now);
	if (out != NULL)
		*out = now.tv_sec;
	return now.tv_sec;
}

static X509_NAME *
name_of(const char *cn)
{
	X509_NAME *name = X509_NAME_new();

	assert_non_null(name);
	assert_int_equal(X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC,
	    (const unsigned char *)cn, -1, -1, 0), 1);
	return name;
}

static void
extend(X509 *x, int nid, const char *value)
{
	X509_EXTENSION *ext = X509V3_EXT_conf_nid(NULL, NULL, nid, value);

	assert_non_null(ext);
	assert_int_equal(X509_add_ext(x, ext, -1), 1);
	X509_EXTENSION_free(ext);
}

static X509 *
issue(const char *cn, long serial, EVP_PKEY *key, EVP_PKEY *signer, int ca)
{
	X509_NAME *name = name_of(cn), *issuer = name_of("authority");
	X509 *x = X509_new();

	assert_non_null(x);
	assert_int_equal(X509_set_version(x, 2), 1);
	assert_int_equal(ASN1_INTEGER_set(X509_get_serialNumber(x), serial), 1);
	assert_int_equal(X509_set_subject_name(x, name), 1);
	assert_int_equal(X509_set_issuer_name(x, issuer), 1);
	assert_non_null(ASN1_TIME_set(X509_getm_notBefore(x), BORN));
	assert_non_null(ASN1_TIME_set(X509_getm_notAfter(x), BORN + LIFE));
	assert_int_equal(X509_set_pubkey(x, key), 1);
	if (ca)
		extend(x, NID_basic_constraints, "critical,CA:TRUE");
	extend(x, NID_key_usage, ca ? "critical,keyCertSign,cRLSign" :
	    "critical,digitalSignature");
	assert_true(X509_sign(x, signer, EVP_sha256()) > 0);
	X509_NAME_free(name);
	X509_NAME_free(issuer);
	return x;
}

static int
make_grid(void **state)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *root = issue("authority", 1, key, key, 1), *x;
	char cn[32];
	FILE *f;
	int i, len;

	(void)state;
	(void)snprintf(folder, sizeof(folder), "/tmp/pilotage-cache-XXXXXX");
	assert_non_null(mkdtemp(folder));
	(void)snprintf(anchor, sizeof(anchor), "%.200s/%08lx.0", folder,
	    X509_NAME_hash_ex(X509_get_subject_name(root), NULL, NULL, NULL));
	assert_non_null(f = fopen(anchor, "w"));
	assert_int_equal(PEM_write_X509(f, root), 1);
	assert_int_equal(fclose(f), 0);
	for (i = 0; i < USERS; i++) {
		(void)snprintf(cn, sizeof(cn), "user %d", i);
		x = issue(cn, 100 + i, key, key, 0);
		user[i].der = NULL;
		assert_true((len = i2d_X509(x, &user[i].der)) > 0);
		user[i].len = (size_t)len;
		X509_free(x);
	}
	X509_free(root);
	EVP_PKEY_free(key);
	opt.ca_dir = folder;
	opt.skew = SKEW;
	opt.policy = PIL_P_NO_SIGNING_POLICY;
	return 0;
}

static int
remove_grid(void **state)
{
	int i;

	(void)state;
	for (i = 0; i < USERS; i++)
		OPENSSL_free(user[i].der);
	(void)unlink(anchor);
	return rmdir(folder);
}

static uint64_t
find(struct pil_cache *c, int i)
{
	return pil_cache_find(c, user[i].der, user[i].len, NOW);
}

/* The ticket; the identity is the user's own. */
static uint64_t
verify(struct pil_cache *c, int i)
{
	struct pil_identity who;
	uint64_t ticket;
	char dn[32];

	(void)snprintf(dn, sizeof(dn), "/CN=user %d", i);
	assert_int_equal(pil_cache_verify(c, user[i].der, user[i].len, NOW,
	    &who, &ticket), PIL_OK);
	assert_string_equal(who.dn, dn);
	return ticket;
}

static void
test_a_chain_is_found_by_all_its_bytes(void **state)
{
	struct pil_cache *c = pil_cache_new(&opt, 4, 1 << 20);
	unsigned char copy[2048];
	uint64_t ticket;
	size_t i;

	(void)state;
	assert_non_null(c);
	assert_int_equal(find(c, 0), 0);
	assert_int_not_equal(ticket = verify(c, 0), 0);
	assert_int_equal(find(c, 0), ticket);
	assert_int_equal(find(c, 1), 0);
	assert_true(user[0].len < sizeof(copy));
	for (i = 0; i < user[0].len; i++) {
		memcpy(copy, user[0].der, user[0].len);
		copy[i] ^= 1;
		assert_int_equal(pil_cache_find(c, copy, user[0].len, NOW), 0);
		assert_int_equal(pil_cache_find(c, user[0].der, i, NOW), 0);
	}
	assert_int_equal(pil_cache_find(c, NULL, 0, NOW), 0);
	pil_cache_free(c);
}

static void
test_a_chain_is_found_in_the_seconds_in_which_it_would_be_verified(void **state)
{
	static const struct {
		int64_t	 at;
		int	 good;
	} cases[] = {
		{ BORN - SKEW, 1 }, { BORN - SKEW - 1, 0 }, { NOW, 1 },
		{ BORN + LIFE + SKEW - 1, 1 }, { BORN + LIFE + SKEW, 0 },
		{ 1, 0 }, { -1, 0 }, { INT64_MIN, 0 }, { INT64_MAX, 0 },
		{ 0, 0 },	/* now: they ended years ago */
	};
	struct pil_cache *c = pil_cache_new(&opt, 4, 1 << 20);
	struct pil_identity who;
	uint64_t ticket = verify(c, 0), other;
	enum pil_reason reason;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_int_equal(pil_cache_find(c, user[0].der, user[0].len,
		    cases[i].at), cases[i].good ? ticket : 0);
		reason = pil_cache_verify(c, user[1].der, user[1].len,
		    cases[i].at, &who, &other);
		assert_int_equal(reason == PIL_OK, cases[i].good);
		assert_int_equal(other != 0, cases[i].good);
	}
	assert_int_equal(find(c, 0), ticket);
	pil_cache_free(c);
}

/* What OpenSSL compares with a time of its own would be missing in the bounds. */
static void
test_a_verification_at_a_given_time_asks_no_clock(void **state)
{
	struct pil_verify_options asked = opt;
	struct pil_identity who;
	ASN1_TIME *t;
	int before;

	(void)state;
	asked.at = NOW;
	before = clocks;
	assert_int_equal(pil_verify_der(&asked, user[0].der, user[0].len,
	    &who), PIL_OK);
	assert_int_equal(clocks, before);
	asked.at = 0;
	assert_int_equal(pil_verify_der(&asked, user[0].der, user[0].len,
	    &who), PIL_CERTIFICATE_EXPIRED);
	assert_int_equal(clocks, before + 1);
	/* And it would have been noticed. */
	t = X509_gmtime_adj(NULL, 0);
	assert_non_null(t);
	ASN1_TIME_free(t);
	assert_true(clocks > before + 1);
}

static void
test_what_changed_is_forgotten_and_verified_anew(void **state)
{
	const struct timespec pause = { .tv_nsec = 1000 * 1000 };
	struct stat before, after;
	struct pil_cache *c = pil_cache_new(&opt, 4, 1 << 20);
	struct pil_cache_state now;
	uint64_t ticket = verify(c, 0), again;

	(void)state;
	/* Until a change has another time than the file has. */
	assert_int_equal(stat(anchor, &before), 0);
	do {
		(void)nanosleep(&pause, NULL);
		assert_int_equal(chmod(anchor, 0600), 0);
		assert_int_equal(stat(anchor, &after), 0);
	} while (memcmp(&before.st_ctim, &after.st_ctim,
	    sizeof(after.st_ctim)) == 0);
	assert_int_equal(find(c, 0), 0);
	assert_int_not_equal(again = verify(c, 0), ticket);
	assert_int_equal(find(c, 0), again);
	pil_cache_look(c, &now);
	assert_int_equal(now.changed, 1);
	assert_int_equal(now.kept, 2);
	assert_int_equal(now.entries, 1);
	pil_cache_free(c);
}

/* Against a list of what was used last, most lately first. */
static void
test_the_ones_used_last_are_kept_whatever_the_order(void **state)
{
	const uint32_t room = 5;
	struct pil_cache *c = pil_cache_new(&opt, room, 1 << 20);
	struct pil_cache_state now;
	uint64_t ticket[USERS] = { 0 }, last = 0;
	int model[USERS], used = 0, i, k, step;
	unsigned seed = 1;

	(void)state;
	for (step = 0; step < 1500; step++) {
		seed = seed * 1103515245u + 12345u;
		i = (int)(seed >> 16) % USERS;
		for (k = 0; k < used && model[k] != i; k++)
			continue;
		assert_int_equal(find(c, i), k < used ? ticket[i] : 0);
		if (k == used || seed >> 28 == 0) {
			ticket[i] = verify(c, i);
			assert_true(ticket[i] / room > last / room);
			last = ticket[i];
		}
		if (k == used && used < (int)room)
			used++;
		else if (k == used)
			k--;
		memmove(model + 1, model, (size_t)k * sizeof(model[0]));
		model[0] = i;
		for (k = 1; k < used; k++)
			assert_int_not_equal(ticket[model[k]] % room,
			    ticket[i] % room);
	}
	pil_cache_look(c, &now);
	assert_int_equal(now.entries, room);
	assert_true(now.evicted > 100);
	assert_true(now.hits > 100);
	pil_cache_free(c);
}

static void
test_bytes_are_bounded(void **state)
{
	struct pil_cache *c = pil_cache_new(&opt, 100, 1 << 20);
	struct pil_cache_state now;
	size_t one;
	int i;

	(void)state;
	(void)verify(c, 0);
	pil_cache_look(c, &now);
	one = now.bytes;
	pil_cache_free(c);
	assert_true(one > user[0].len);
	assert_non_null(c = pil_cache_new(&opt, 100, 3 * one + one / 2));
	for (i = 0; i < USERS; i++) {
		assert_int_not_equal(verify(c, i), 0);
		assert_int_not_equal(find(c, i), 0);
		pil_cache_look(c, &now);
		assert_true(now.bytes <= 3 * one + one / 2);
	}
	assert_int_equal(now.entries, 3);
	pil_cache_free(c);
	assert_non_null(c = pil_cache_new(&opt, 100, one / 2));
	assert_int_equal(verify(c, 0), 0);
	assert_int_equal(find(c, 0), 0);
	pil_cache_free(c);
	assert_null(pil_cache_new(&opt, 0, 1));
	pil_cache_free(NULL);
}

struct work {
	struct pil_cache	*cache;
	unsigned		 seed;
	int			 found;
	int			 wrong;
};

static void *
ask(void *argument)
{
	struct work *w = argument;
	struct pil_identity who;
	uint64_t ticket;
	int step, i;

	for (step = 0; step < 400; step++) {
		w->seed = w->seed * 1103515245u + 12345u;
		i = (int)(w->seed >> 16) % 6;
		if (step % 97 == 96 && chmod(anchor, 0600) != 0)
			w->wrong++;
		if (find(w->cache, i) != 0) {
			w->found++;
			continue;
		}
		if (pil_cache_verify(w->cache, user[i].der, user[i].len, NOW,
		    &who, &ticket) != PIL_OK ||
		    who.dn[strlen("/CN=user ")] != (char)('0' + i))
			w->wrong++;
	}
	return NULL;
}

static void
test_threads_share_a_cache_whose_entries_come_and_go(void **state)
{
	struct pil_cache *c = pil_cache_new(&opt, 4, 1 << 20);
	struct pil_cache_state now;
	struct work work[4];
	pthread_t thread[4];
	int i, found = 0;

	(void)state;
	for (i = 0; i < 4; i++) {
		work[i] = (struct work){ c, (unsigned)i + 1, 0, 0 };
		assert_int_equal(pthread_create(&thread[i], NULL, ask,
		    &work[i]), 0);
	}
	for (i = 0; i < 4; i++) {
		assert_int_equal(pthread_join(thread[i], NULL), 0);
		assert_int_equal(work[i].wrong, 0);
		found += work[i].found;
	}
	pil_cache_look(c, &now);
	assert_int_equal(now.hits, found);
	assert_true(found > 100);
	assert_true(now.evicted > 0);
	assert_true(now.entries <= 4);
	pil_cache_free(c);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_chain_is_found_by_all_its_bytes),
		cmocka_unit_test(
		    test_a_chain_is_found_in_the_seconds_in_which_it_would_be_verified),
		cmocka_unit_test(
		    test_a_verification_at_a_given_time_asks_no_clock),
		cmocka_unit_test(test_what_changed_is_forgotten_and_verified_anew),
		cmocka_unit_test(
		    test_the_ones_used_last_are_kept_whatever_the_order),
		cmocka_unit_test(test_bytes_are_bounded),
		cmocka_unit_test(
		    test_threads_share_a_cache_whose_entries_come_and_go),
	};

	return cmocka_run_group_tests(tests, make_grid, remove_grid);
}
