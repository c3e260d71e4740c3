/*
 * What libFuzzer does, in small, for builds without clang: give a target each
 * file of its corpus, then some changed copies of it, the same ones each time.
 *
 * usage: replay COPIES DIRECTORY ...
 */
#include <sys/stat.h>

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"

#define INPUT_MAX	(512 * 1024)

static uint64_t state = 0x9e3779b97f4a7c15u;
static unsigned long inputs, runs;

/* xorshift64: repeatable, and that is all that is asked of it. */
static size_t
below(size_t n)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (size_t)(state % n);
}

static size_t
change(uint8_t *data, size_t len)
{
	static const uint8_t telling[] = { 0, 1, 0x7f, 0x80, 0xff, '\n', '"',
	    '\\', '/', '*', '=', '#', ' ', '[', 0x30, 0x84 };
	size_t times = 1 + below(4), at, n;

	while (times-- > 0 && len > 0) {
		at = below(len);
		n = 1 + below(len - at);
		switch (below(5)) {
		case 0:
			data[at] ^= (uint8_t)(1u << below(8));
			break;
		case 1:
			data[at] = telling[below(sizeof(telling))];
			break;
		case 2:	/* cut a piece out */
			memmove(data + at, data + at + n, len - at - n);
			len -= n;
			break;
		case 3:	/* put a piece in twice */
			if (len + n > INPUT_MAX)
				break;
			memmove(data + at + n, data + at, len - at);
			len += n;
			break;
		default:
			len = at + 1;
		}
	}
	return len;
}

/* Each input is its own allocation, so that a read beyond it is seen. */
static void
try_one(const uint8_t *data, size_t len)
{
	uint8_t *copy = malloc(len > 0 ? len : 1);

	MUST(copy != NULL);
	memcpy(copy, data, len);
	(void)LLVMFuzzerTestOneInput(copy, len);
	free(copy);
	runs++;
}

static void
replay(const char *path, unsigned long copies)
{
	static uint8_t data[INPUT_MAX], changed[INPUT_MAX];
	FILE *file = fopen(path, "rb");
	size_t len;

	if (file == NULL) {
		perror(path);
		exit(1);
	}
	len = fread(data, 1, sizeof(data), file);
	(void)fclose(file);
	inputs++;
	try_one(data, len);
	while (copies-- > 0) {
		memcpy(changed, data, len);
		try_one(changed, change(changed, len));
	}
}

int
main(int argc, char **argv)
{
	struct dirent **names;
	char path[4096];
	int i, j, n;

	for (i = 2; i < argc; i++) {
		if ((n = scandir(argv[i], &names, NULL, alphasort)) == -1) {
			perror(argv[i]);
			return 1;
		}
		for (j = 0; j < n; j++) {
			(void)snprintf(path, sizeof(path), "%s/%s", argv[i],
			    names[j]->d_name);
			if (names[j]->d_name[0] != '.')
				replay(path, strtoul(argv[1], NULL, 10));
			free(names[j]);
		}
		free(names);
	}
	(void)printf("%lu inputs, %lu executions\n", inputs, runs);
	return inputs > 0 ? 0 : 1;
}
