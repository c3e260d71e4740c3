/*
 * The one place where a verification opens anything: the directories, and
 * small files below one that is already open, judged on the descriptor and
 * read to the end with a cap. A cache learns here on what an answer rests, so
 * no other file of the verifier may ask the file system.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/crypto.h>
#include <openssl/x509.h>

#include "verify/core.h"

static int
open_below(const struct pil_dirs *dirs, int dir, const char *name, int flags)
{
	int fd = openat(dir, name, flags);

	if (dirs->watch != NULL)
		dirs->watch->opened(dirs->watch, dir, name, flags, fd);
	return fd;
}

/* -1 and errno: ENOENT when there is none, EPERM when others may write it. */
int
pil_open_dir(const struct pil_dirs *dirs, int dir, const char *name, int flags)
{
	struct stat st;
	int fd;

	fd = open_below(dirs, dir, name,
	    O_RDONLY | O_DIRECTORY | O_CLOEXEC | flags);
	if (fd == -1)
		return -1;
	if (fstat(fd, &st) != 0 || (dirs->strict && (st.st_uid != 0 ||
	    (st.st_mode & (S_IWGRP | S_IWOTH)) != 0))) {
		(void)close(fd);
		errno = EPERM;
		return -1;
	}
	return fd;
}

static int
trustworthy(const struct stat *st, int strict)
{
	if (!S_ISREG(st->st_mode))
		return 0;
	return !strict ||
	    (st->st_uid == 0 && (st->st_mode & (S_IWGRP | S_IWOTH)) == 0);
}

static int
read_all(int fd, unsigned char *buffer, size_t size, size_t *len)
{
	ssize_t n;

	for (*len = 0; *len < size; *len += (size_t)n) {
		n = read(fd, buffer + *len, size - *len);
		if (n == -1 && errno == EINTR) {
			n = 0;
			continue;
		}
		if (n == -1)
			return 0;
		if (n == 0)
			return 1;
	}
	return 0;	/* it grew beyond the size it had */
}

/*
 * 1 and the bytes (freed by OPENSSL_free), 0 when there is no such file, -1
 * when it cannot be used: wrong kind, owner or mode, or longer than the cap.
 * Links are followed unless `flags` says O_NOFOLLOW: trust anchor packages
 * link hashes to files, .lsc files are never links.
 */
int
pil_read_file(const struct pil_dirs *dirs, int dir, const char *name,
    int flags, size_t cap, unsigned char **out, size_t *len)
{
	unsigned char *buffer = NULL;
	struct stat st;
	size_t size;
	int fd, good = 0;

	fd = open_below(dirs, dir, name,
	    O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK | flags);
	if (fd == -1)
		return errno == ENOENT ? 0 : -1;
	if (fstat(fd, &st) == 0 && trustworthy(&st, dirs->strict) &&
	    st.st_size >= 0 && (size_t)st.st_size <= cap) {
		size = (size_t)st.st_size + 1;
		buffer = OPENSSL_malloc(size);
		good = buffer != NULL && read_all(fd, buffer, size, len);
	}
	(void)close(fd);
	if (!good) {
		OPENSSL_free(buffer);
		return -1;
	}
	*out = buffer;
	return 1;
}

/* "<hash><suffix>" as OpenSSL 1.0 and later hash names; 0 on failure. */
int
pil_hashed_name(const X509_NAME *name, const char *suffix, char out[32])
{
	unsigned long hash;
	int ok = 0, n;

	hash = X509_NAME_hash_ex(name, pil_library(), NULL, &ok);
	if (!ok)
		return 0;
	n = snprintf(out, 32, "%08lx%s", hash, suffix);
	return n > 0 && n < 32;
}
