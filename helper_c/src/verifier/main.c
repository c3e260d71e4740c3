/*
 * pilotage-verify CA_DIR VOMS_DIR HOST
 * pilotage-verify --version	which OpenSSL it holds, as openssl(1) says it
 *
 * Run by pilotage-keep as a uid of its own: one request and its PEM bytes come
 * in on descriptor 0, one record goes out on 1. "-" stands for no VOMS
 * directory and no host name. Exit code 0 means that a record was written,
 * whatever it says; everything else is no answer.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>

#include "base/answer.h"
#include "pilotage/record.h"
#include "verifier/sandbox.h"
#include "verify/core.h"

/* Too big for the stack of a limited process, and needed once. */
static struct pil_record record;
static unsigned char pem[PIL_INPUT_MAX];

static int
write_exactly(const void *buffer, size_t size)
{
	const unsigned char *at = buffer;
	ssize_t n;

	while (size > 0) {
		n = write(STDOUT_FILENO, at, size);
		if (n == -1 && errno == EINTR)
			continue;
		if (n <= 0)
			return 0;
		at += n;
		size -= (size_t)n;
	}
	return 1;
}

static int
digest(const void *data, size_t len, uint8_t out[32])
{
	EVP_MD *sha256 = EVP_MD_fetch(pil_library(), "SHA256", NULL);
	int good;

	good = sha256 != NULL &&
	    EVP_Digest(data, len, out, NULL, sha256, NULL) == 1;
	EVP_MD_free(sha256);
	return good;
}

/*
 * Names of ciphers and digests and texts of errors make up most of what
 * OpenSSL does at its start, and verifying needs neither ciphers nor texts:
 * nothing is decrypted here, and reasons are words of our own. Of the digests
 * it needs to know by name those that may sign, and SHA-1, which RSASSA-PSS may
 * have in its mask; a signature by any other is weak, known or not.
 */
static int
start_openssl(void)
{
	const uint64_t without = OPENSSL_INIT_NO_LOAD_CONFIG |
	    OPENSSL_INIT_NO_ADD_ALL_CIPHERS |
	    OPENSSL_INIT_NO_ADD_ALL_DIGESTS |
	    OPENSSL_INIT_NO_LOAD_CRYPTO_STRINGS;

	pil_library_alone();
	return OPENSSL_init_crypto(without, NULL) == 1 &&
	    EVP_add_digest(EVP_sha1()) == 1 &&
	    EVP_add_digest(EVP_sha256()) == 1 &&
	    EVP_add_digest(EVP_sha384()) == 1 &&
	    EVP_add_digest(EVP_sha512()) == 1 && pil_library() != NULL;
}

static const char *
argument(const char *text)
{
	return strcmp(text, "-") == 0 ? NULL : text;
}

static void
answer(struct pil_verify_options *opt, const struct pil_dirs *dirs,
    enum pil_reason opened)
{
	struct pil_request request;

	if (!pil_read_exactly(STDIN_FILENO, &request, sizeof(request)) ||
	    memcmp(request.magic, PIL_RECORD_MAGIC, sizeof(request.magic)) != 0 ||
	    request.version != PIL_RECORD_VERSION ||
	    request.pem_size > sizeof(pem) || request.at <= 0 ||
	    request.skew < 0)
		pil_die("the request is malformed");
	if (!pil_read_exactly(STDIN_FILENO, pem, request.pem_size))
		pil_die("the input is shorter than the request says");
	opt->at = request.at;
	opt->skew = request.skew;
	opt->policy = request.policy;
	opt->max_voms_seconds = request.max_voms_seconds;
	opt->max_proxy_seconds = request.max_proxy_seconds;
	memcpy(record.magic, PIL_RECORD_MAGIC, sizeof(record.magic));
	memcpy(record.tail, PIL_RECORD_MAGIC, sizeof(record.tail));
	record.version = PIL_RECORD_VERSION;
	record.size = sizeof(record);
	memcpy(record.nonce, request.nonce, sizeof(record.nonce));
	if (!digest(pem, request.pem_size, record.digest))
		pil_die("the digest of the input could not be computed");
	if (opened == PIL_OK)
		(void)pil_verify_at(opt, dirs, 1, pem, request.pem_size,
		    &record.who);
	else {
		record.who.reason = (int32_t)opened;
		(void)snprintf(record.who.detail, sizeof(record.who.detail),
		    "%.200s is missing, or others than root may write it",
		    opened == PIL_VOMS_LSC_UNUSABLE ? opt->voms_dir :
		    opt->ca_dir);
	}
	if (!write_exactly(&record, sizeof(record)))
		pil_die("the record could not be written");
}

int
main(int argc, char **argv)
{
	struct pil_verify_options opt;
	struct pil_dirs dirs;
	enum pil_reason opened;

	if (argc == 2 && strcmp(argv[1], "--version") == 0) {
		(void)printf("%s\n%s\n", OpenSSL_version(OPENSSL_VERSION),
		    OpenSSL_version(OPENSSL_BUILT_ON));
		return 0;
	}
	if (argc != 4)
		pil_die("usage: pilotage-verify CA_DIR VOMS_DIR HOST");
	if (clearenv() != 0 || close_range(STDERR_FILENO + 1, ~0u, 0) != 0)
		pil_die("the environment could not be emptied");
	memset(&opt, 0, sizeof(opt));
	opt.ca_dir = argv[1];
	opt.voms_dir = argument(argv[2]);
	opt.host = argument(argv[3]);
	opened = pil_open_dirs(&opt, 1, NULL, &dirs);
	/* OpenSSL starts before the filter, on nothing but its own tables. */
	if (!start_openssl())
		pil_die("OpenSSL could not be started");
	if (sandbox_limits() != 0 || sandbox_files(dirs.ca, dirs.voms) != 0 ||
	    sandbox_calls() != 0)
		pil_die("the sandbox could not be closed");
	answer(&opt, &dirs, opened);
	_exit(0);
}
