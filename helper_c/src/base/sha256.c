/*
 * SHA-256 (FIPS 180-4), plain and short. It fingerprints input for the log
 * and ties the verifier's answer to it; no secret depends on its timing.
 */
#include <string.h>

#include "base/sha256.h"

static const uint32_t K[64] = {
	0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1,
	0x923f82a4, 0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3,
	0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786,
	0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
	0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147,
	0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13,
	0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b,
	0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
	0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a,
	0x5b9cca4f, 0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208,
	0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

static uint32_t
rotate(uint32_t x, unsigned n)
{
	return x >> n | x << (32 - n);
}

/*
 * One round. The eight words change places by their names, eight rounds to a
 * turn: moving them in memory took longer than the arithmetic.
 */
static inline void
step(uint32_t a, uint32_t b, uint32_t c, uint32_t *d, uint32_t e, uint32_t f,
    uint32_t g, uint32_t *h, uint32_t input)
{
	*h += (rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25)) +
	    ((e & f) ^ (~e & g)) + input;
	*d += *h;
	*h += (rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22)) +
	    ((a & b) ^ (a & c) ^ (b & c));
}

static void
block(uint32_t state[8], const uint8_t *p)
{
	uint32_t a = state[0], b = state[1], c = state[2], d = state[3];
	uint32_t e = state[4], f = state[5], g = state[6], h = state[7];
	uint32_t w[64];
	unsigned t;

	for (t = 0; t < 16; t++, p += 4)
		w[t] = (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 |
		    (uint32_t)p[2] << 8 | p[3];
	for (; t < 64; t++)
		w[t] = w[t - 16] + w[t - 7] + (rotate(w[t - 15], 7) ^
		    rotate(w[t - 15], 18) ^ w[t - 15] >> 3) +
		    (rotate(w[t - 2], 17) ^ rotate(w[t - 2], 19) ^
		    w[t - 2] >> 10);
	for (t = 0; t < 64; t++)
		w[t] += K[t];
	for (t = 0; t < 64; t += 8) {
		step(a, b, c, &d, e, f, g, &h, w[t]);
		step(h, a, b, &c, d, e, f, &g, w[t + 1]);
		step(g, h, a, &b, c, d, e, &f, w[t + 2]);
		step(f, g, h, &a, b, c, d, &e, w[t + 3]);
		step(e, f, g, &h, a, b, c, &d, w[t + 4]);
		step(d, e, f, &g, h, a, b, &c, w[t + 5]);
		step(c, d, e, &f, g, h, a, &b, w[t + 6]);
		step(b, c, d, &e, f, g, h, &a, w[t + 7]);
	}
	state[0] += a;
	state[1] += b;
	state[2] += c;
	state[3] += d;
	state[4] += e;
	state[5] += f;
	state[6] += g;
	state[7] += h;
}

void
pil_sha256(const void *data, size_t len, uint8_t digest[32])
{
	uint32_t h[8] = { 0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
	    0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19 };
	const uint8_t *p = data;
	uint8_t last[128] = { 0 };
	size_t left = len, used, i;

	for (; left >= 64; left -= 64, p += 64)
		block(h, p);
	if (left != 0)
		memcpy(last, p, left);
	last[left] = 0x80;
	used = left < 56 ? 64 : 128;
	for (i = 0; i < 8; i++)
		last[used - 1 - i] = (uint8_t)((uint64_t)len * 8 >> 8 * i);
	block(h, last);
	if (used == 128)
		block(h, last + 64);
	for (i = 0; i < 32; i++)
		digest[i] = (uint8_t)(h[i / 4] >> (24 - 8 * (i % 4)));
}

void
pil_hex(const uint8_t *bytes, size_t len, char *out)
{
	static const char digits[] = "0123456789abcdef";
	size_t i;

	for (i = 0; i < len; i++) {
		out[2 * i] = digits[bytes[i] >> 4];
		out[2 * i + 1] = digits[bytes[i] & 15];
	}
	out[2 * len] = '\0';
}
