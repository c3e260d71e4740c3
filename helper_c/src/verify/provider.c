/*
 * What is left of OpenSSL's default provider: the keys, signatures and digests
 * that a chain is judged by, and how such keys are written. A hostile
 * certificate then reaches no code for other kinds of keys, and it is quicker:
 * OpenSSL asks every decoder and kind of key about each certificate's key, and
 * of some 40 decoders 6 are left.
 *
 * The whole provider is loaded into a context aside. The library's own one has
 * a provider without any code: its lists are those entries of the whole one's
 * lists that are wanted.
 */
#include <stddef.h>
#include <string.h>

#include <openssl/core_dispatch.h>
#include <openssl/crypto.h>
#include <openssl/provider.h>

#include "verify/core.h"

#define MOST	24	/* algorithms of one operation, and the list's end */

static OSSL_PROVIDER	*whole;

/*
 * MD5 and SHA-1 sign nothing that is believed: key identifiers are SHA-1, and
 * what is signed with a weak digest is told so and not that it is forged.
 */
static const char *const digests[] = {
	"MD5", "RIPEMD-160", "SHA1", "SHA2-224", "SHA2-256", "SHA2-384",
	"SHA2-512", "SHA2-512/224", "SHA2-512/256", "SHA3-224", "SHA3-256",
	"SHA3-384", "SHA3-512", NULL
};
static const char *const keys[] = { "RSA", "EC", NULL };
static const char *const signatures[] = { "RSA", "ECDSA", NULL };

struct part {
	int			 operation;
	const char *const	*names;
	OSSL_ALGORITHM		 list[MOST];
};

static struct part parts[] = {
	{ .operation = OSSL_OP_DIGEST, .names = digests },
	{ .operation = OSSL_OP_KEYMGMT, .names = keys },
	{ .operation = OSSL_OP_SIGNATURE, .names = signatures },
	{ .operation = OSSL_OP_DECODER, .names = keys },
};

#define NPARTS	(sizeof(parts) / sizeof(parts[0]))

/* One of the words of a list; they are parted by `separator`. */
static int
has_word(const char *list, char separator, const char *word)
{
	size_t len = strlen(word);
	const char *at = list;

	for (;;) {
		if (strncmp(at, word, len) == 0 &&
		    (at[len] == '\0' || at[len] == separator))
			return 1;
		if ((at = strchr(at, separator)) == NULL)
			return 0;
		at++;
	}
}

static int
is_wanted(const struct part *part, const OSSL_ALGORITHM *algorithm)
{
	const char *how = algorithm->property_definition;
	size_t i;

	for (i = 0; part->names[i] != NULL; i++)
		if (has_word(algorithm->algorithm_names, ':', part->names[i]))
			break;
	if (part->names[i] == NULL)
		return 0;
	return part->operation != OSSL_OP_DECODER || (how != NULL &&
	    has_word(how, ',', "input=der") &&
	    (has_word(how, ',', "structure=SubjectPublicKeyInfo") ||
	    has_word(how, ',', "structure=PrivateKeyInfo") ||
	    has_word(how, ',', "structure=type-specific")));
}

static int
choose(struct part *part)
{
	const OSSL_ALGORITHM *all;
	int no_cache = 0;
	size_t n = 0;

	all = OSSL_PROVIDER_query_operation(whole, part->operation, &no_cache);
	for (; all != NULL && all->algorithm_names != NULL; all++) {
		if (!is_wanted(part, all))
			continue;
		if (n == MOST - 1)
			return 0;
		part->list[n++] = *all;
	}
	return n > 0 && no_cache == 0;
}

static const OSSL_ALGORITHM *
query(void *context, int operation, int *no_cache)
{
	size_t i;

	(void)context;
	*no_cache = 0;
	for (i = 0; i < NPARTS; i++)
		if (parts[i].operation == operation)
			return parts[i].list;
	return NULL;
}

static int
begin(const OSSL_CORE_HANDLE *handle, const OSSL_DISPATCH *in,
    const OSSL_DISPATCH **out, void **context)
{
	static const OSSL_DISPATCH functions[] = {
		{ OSSL_FUNC_PROVIDER_QUERY_OPERATION,
		    (void (*)(void))query },
		{ 0, NULL },
	};

	(void)handle;
	(void)in;
	*out = functions;
	/* The algorithms are handed what their own provider would hand them. */
	*context = OSSL_PROVIDER_get0_provider_ctx(whole);
	return 1;
}

/*
 * Into the library's context, with the whole provider in the one aside; once
 * in a process. 0 on failure.
 */
int
pil_provide(OSSL_LIB_CTX *library, OSSL_LIB_CTX *aside)
{
	size_t i;

	if ((whole = OSSL_PROVIDER_load(aside, "default")) == NULL)
		return 0;
	for (i = 0; i < NPARTS; i++)
		if (!choose(&parts[i]))
			return 0;
	return OSSL_PROVIDER_add_builtin(library, "pilotage", begin) == 1 &&
	    OSSL_PROVIDER_load(library, "pilotage") != NULL;
}
