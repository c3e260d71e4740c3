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

static void
start(void)
{
	OSSL_LIB_CTX *fresh;

	if (OPENSSL_init_crypto(OPENSSL_INIT_NO_LOAD_CONFIG, NULL) != 1)
		return;
	if ((fresh = OSSL_LIB_CTX_new()) == NULL)
		return;
	if (!pil_provide(fresh)) {
		OSSL_LIB_CTX_free(fresh);
		return;
	}
	library = fresh;
}

/* NULL when OpenSSL could not be started; it is not tried again. */
OSSL_LIB_CTX *
pil_library(void)
{
	if (pthread_once(&once, start) != 0)
		return NULL;
	return library;
}
