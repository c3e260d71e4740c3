/* SHA-256 (FIPS 180-4): pilotage-keep digests proxies without libcrypto. */
#ifndef PILOTAGE_BASE_SHA256_H
#define PILOTAGE_BASE_SHA256_H

#include <stddef.h>
#include <stdint.h>

void	pil_sha256(const void *data, size_t len, uint8_t digest[32]);
/* Lower-case hexadecimal with a NUL; out holds 2 * len + 1 bytes. */
void	pil_hex(const uint8_t *bytes, size_t len, char *out);

#endif
