/*
 * One OpenSSL library context of our own: no openssl.cnf, no engine, no
 * provider but a part of the built-in default one, whatever the host process
 * loaded.
 */
#include <pthread.h>

#include <openssl/crypto.h>

#include "verify/core.h"

static pthread_once_t	 once = PTHREAD_ONCE_INIT;
static OSSL_LIB_CTX	*library;
static int		 alone;

static void
start(void)
{
	OSSL_LIB_CTX *fresh, *aside;

	if (OPENSSL_init_crypto(OPENSSL_INIT_NO_LOAD_CONFIG, NULL) != 1)
		return;
	fresh = OSSL_LIB_CTX_new();
	aside = alone ? OSSL_LIB_CTX_get0_global_default() :
	    OSSL_LIB_CTX_new();
	if (fresh != NULL && aside != NULL && pil_provide(fresh, aside)) {
		library = fresh;
		return;
	}
	OSSL_LIB_CTX_free(fresh);
	if (!alone)
		OSSL_LIB_CTX_free(aside);
}

/*
 * Said before anything else by a process that is ours alone: OpenSSL fills its
 * own context whatever is done, and a third one then is not needed.
 */
void
pil_library_alone(void)
{
	alone = 1;
}

/* NULL when OpenSSL could not be started; it is not tried again. */
OSSL_LIB_CTX *
pil_library(void)
{
	if (pthread_once(&once, start) != 0)
		return NULL;
	return library;
}
