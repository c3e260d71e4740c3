/*
 * The parsers of the VOMS extension: attribute certificates, what they carry,
 * their texts, and .lsc and signing_policy files.
 */
#include <string.h>

#include "verify/voms.h"

int	LLVMFuzzerTestOneInput(const uint8_t *, size_t);

static void
texts(const uint8_t *data, size_t len)
{
	static const char *const names[] = { "/O=x/CN=h", "/O=x/CN=CA" };
	char one[PIL_NAME_SIZE], two[PIL_NAME_SIZE];

	(void)pil_voms_uri(data, len, one, two);
	(void)pil_voms_fqan(data, len, "demo", one);
	(void)pil_lsc_match((const char *)data, len, names, 2);
	(void)pil_signing_allows((const char *)data, len, names[1], names[0]);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	ASN1_OCTET_STRING *bytes = ASN1_OCTET_STRING_new();
	STACK_OF(X509) *certs;
	int too_many;

	texts(data, len);
	if (bytes == NULL || len > PIL_INPUT_MAX ||
	    ASN1_OCTET_STRING_set(bytes, data, (int)len) != 1) {
		ASN1_OCTET_STRING_free(bytes);
		return 0;
	}
	pil_ac_list_free(pil_ac_list(bytes));
	certs = pil_ac_certs(bytes, &too_many);
	sk_X509_pop_free(certs, X509_free);
	(void)pil_ac_target(bytes, "wn.example.org");
	ASN1_OCTET_STRING_free(bytes);
	return 0;
}
