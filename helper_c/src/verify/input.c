/*
 * From bytes to certificates and a key, still believing nothing.
 */
#include <string.h>

#include <openssl/crypto.h>
#include <openssl/x509.h>

#include "verify/core.h"

/*
 * One certificate at the start of the bytes; *used is its length. NULL when it
 * is not one, or when its outer encoding is not DER: a lax length would give
 * one certificate many digests.
 */
X509 *
pil_certificate(const unsigned char *der, size_t len, size_t *used)
{
	const unsigned char *at = der;
	unsigned char *again = NULL;
	X509 *x;
	int n;

	if (len == 0 || len > PIL_INPUT_MAX)
		return NULL;
	if ((x = X509_new_ex(pil_library(), NULL)) == NULL)
		return NULL;
	if (d2i_X509(&x, &at, (long)len) == NULL)
		return NULL;	/* d2i freed it */
	*used = (size_t)(at - der);
	n = i2d_X509(x, &again);
	if (n <= 0 || (size_t)n != *used || memcmp(again, der, *used) != 0) {
		X509_free(x);
		x = NULL;
	}
	OPENSSL_free(again);
	return x;
}

static enum pil_reason
add_certificate(struct pil_verify *v, X509 *x)
{
	if (sk_X509_num(v->certs) >= PIL_CERTS_MAX) {
		X509_free(x);
		return pil_deny(v, PIL_CHAIN_TOO_DEEP,
		    "there are more than %d certificates in the input",
		    PIL_CERTS_MAX);
	}
	if (sk_X509_push(v->certs, x) <= 0) {
		X509_free(x);
		return pil_deny(v, PIL_VERIFY_INTERNAL, "out of memory");
	}
	return PIL_OK;
}

static enum pil_reason
take_certificate(struct pil_verify *v, const struct pil_block *block)
{
	size_t used;
	X509 *x;

	x = pil_certificate(block->der, block->len, &used);
	if (x == NULL || used != block->len) {
		X509_free(x);
		return pil_deny(v, PIL_PROXY_MALFORMED,
		    "certificate %d of the input is not DER",
		    sk_X509_num(v->certs) + 1);
	}
	return add_certificate(v, x);
}

static int
take_key(struct pil_verify *v, struct pil_block *block)
{
	static const struct {
		const char	*label, *structure, *type;
		int		 encrypted;
	} kinds[] = {
		{ "PRIVATE KEY", "PrivateKeyInfo", NULL, 0 },
		{ "RSA PRIVATE KEY", "type-specific", "RSA", 0 },
		{ "EC PRIVATE KEY", "type-specific", "EC", 0 },
		{ "ENCRYPTED PRIVATE KEY", NULL, NULL, 1 },
	};
	size_t i;

	for (i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		if (strcmp(block->label, kinds[i].label) != 0)
			continue;
		if (v->key.count++ > 0)
			return 0;
		v->key.der = block->der;
		v->key.len = block->len;
		v->key.structure = kinds[i].structure;
		v->key.type = kinds[i].type;
		v->key.encrypted = kinds[i].encrypted || block->encrypted;
		block->der = NULL;
		return 1;
	}
	return 0;
}

static enum pil_reason
take_block(struct pil_verify *v, struct pil_block *block)
{
	if (strcmp(block->label, "CERTIFICATE") == 0)
		return take_certificate(v, block);
	/* openssl ecparam -genkey writes the curve's name before the key. */
	if (strcmp(block->label, "EC PARAMETERS") == 0)
		return PIL_OK;
	if (take_key(v, block))
		return PIL_OK;
	if (v->key.count > 1)
		return pil_deny(v, PIL_PROXY_MALFORMED,
		    "there is more than one private key in the input");
	return pil_deny(v, PIL_PROXY_MALFORMED,
	    "a block of the kind %s does not belong in a proxy", block->label);
}

static enum pil_reason
check_size(struct pil_verify *v, size_t len)
{
	if (len > PIL_INPUT_MAX)
		return pil_deny(v, PIL_PROXY_TOO_LARGE,
		    "the input is longer than %d bytes", PIL_INPUT_MAX);
	return PIL_OK;
}

static enum pil_reason
check_count(struct pil_verify *v)
{
	if (sk_X509_num(v->certs) == 0)
		return pil_deny(v, PIL_PROXY_EMPTY,
		    "there is no certificate in the input");
	return PIL_OK;
}

enum pil_reason
pil_read_pem(struct pil_verify *v, const void *data, size_t len)
{
	struct pil_pem pem;
	struct pil_block block;
	enum pil_reason reason;
	int more;

	if ((reason = check_size(v, len)) != PIL_OK)
		return reason;
	pem.at = data;
	pem.end = pem.at + len;
	while ((more = pil_pem_next(&pem, &block)) > 0) {
		reason = take_block(v, &block);
		OPENSSL_clear_free(block.der, block.len);
		if (reason != PIL_OK)
			return reason;
	}
	if (more < 0)
		return pil_deny(v, PIL_PROXY_MALFORMED,
		    "the input is not PEM after %d certificates",
		    sk_X509_num(v->certs));
	return check_count(v);
}

enum pil_reason
pil_read_der(struct pil_verify *v, const void *data, size_t len)
{
	const unsigned char *at = data;
	enum pil_reason reason;
	size_t used;
	X509 *x;

	if ((reason = check_size(v, len)) != PIL_OK)
		return reason;
	for (; len > 0; at += used, len -= used) {
		if ((x = pil_certificate(at, len, &used)) == NULL)
			return pil_deny(v, PIL_PROXY_MALFORMED,
			    "certificate %d of the input is not DER",
			    sk_X509_num(v->certs) + 1);
		if ((reason = add_certificate(v, x)) != PIL_OK)
			return reason;
	}
	return check_count(v);
}
