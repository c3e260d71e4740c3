/*
 * Notes: three lines in the file of an account, and one file of names of free
 * accounts. Both are small, written in place under the directory's lock, and
 * a half-written one is as good as none.
 */
#include <sys/stat.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/words.h"
#include "map/leasename.h"
#include "map/note.h"

/* A dot-file, which LCMAPS takes for no account and no lease. */
#define FREE_NAME	".pilotage.free"
#define FREE_SIZE	4096
#define OPEN_NOTE	(O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC)

/* Only regular files; the text is terminated. 0: nothing is known. */
static size_t
read_text(int dir, const char *name, char *text, size_t size)
{
	int fd = openat(dir, name, O_RDONLY | OPEN_NOTE);
	struct stat st;
	ssize_t n = 0;

	text[0] = '\0';
	if (fd == -1)
		return 0;
	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode))
		n = read(fd, text, size - 1);
	(void)close(fd);
	text[n > 0 ? n : 0] = '\0';
	return n > 0 ? (size_t)n : 0;
}

static int
write_text(int dir, const char *name, int flags, const char *text, size_t len)
{
	int fd = openat(dir, name, O_WRONLY | OPEN_NOTE | flags, 0644);
	struct stat st;
	int failed, saved;

	if (fd == -1)
		return -1;
	errno = EINVAL;
	failed = fstat(fd, &st) == -1 || !S_ISREG(st.st_mode) ||
	    pwrite(fd, text, len, 0) != (ssize_t)len ||
	    ftruncate(fd, (off_t)len) == -1;
	saved = errno;
	(void)close(fd);
	errno = saved;
	return failed ? -1 : 0;
}

/* Cut one line off; its text must fit. NULL: there is none. */
static const char *
cut_line(char **rest, size_t size)
{
	char *line = *rest, *end = strchr(line, '\n');

	if (end == NULL || (size_t)(end - line) >= size)
		return NULL;
	*end = '\0';
	*rest = end + 1;
	return line;
}

int
pil_note_parse(char *text, struct pil_note *note)
{
	const char *account, *lease, *owner;

	memset(note, 0, sizeof(*note));
	if ((account = cut_line(&text, sizeof(note->account))) == NULL ||
	    (lease = cut_line(&text, sizeof(note->lease))) == NULL ||
	    (owner = cut_line(&text, sizeof(note->owner))) == NULL ||
	    !pil_is_account_file(account) || !pil_is_lease(lease) ||
	    strlen(owner) != sizeof(note->owner) - 1)
		return 0;
	memcpy(note->account, account, strlen(account) + 1);
	memcpy(note->lease, lease, strlen(lease) + 1);
	memcpy(note->owner, owner, strlen(owner) + 1);
	return 1;
}

int
pil_note_read(int dir, const char *name, struct pil_note *note)
{
	char text[sizeof(*note) + 8];

	(void)read_text(dir, name, text, sizeof(text));
	return pil_note_parse(text, note);
}

int
pil_note_write(int dir, const char *name, const struct pil_note *note)
{
	char text[sizeof(*note) + 8];
	int len;

	len = snprintf(text, sizeof(text), "%s\n%s\n%s\n", note->account,
	    note->lease, note->owner);
	return write_text(dir, name, 0, text, (size_t)len);
}

void
pil_free_add(struct pil_free *list, const char *name)
{
	size_t at = list->n;

	while (at > 0 && pil_by_number(name, list->name[at - 1]) < 0)
		at--;
	if (at == PIL_FREE_MAX || strlen(name) >= sizeof(list->name[0]))
		return;
	if (list->n < PIL_FREE_MAX)
		list->n++;
	memmove(list->name[at + 1], list->name[at],
	    (list->n - at - 1) * sizeof(list->name[0]));
	memcpy(list->name[at], name, strlen(name) + 1);
}

void
pil_free_parse(char *text, const char *pool, struct pil_free *list)
{
	const char *name;

	list->n = 0;
	while ((name = cut_line(&text, FREE_SIZE)) != NULL)
		if (pil_is_account_file(name) && pil_in_pool(name, pool))
			pil_free_add(list, name);
}

void
pil_free_read(int dir, const char *pool, struct pil_free *list)
{
	char text[FREE_SIZE + 1];

	(void)read_text(dir, FREE_NAME, text, sizeof(text));
	pil_free_parse(text, pool, list);
}

/* Other pools' names stay as far as there is room. */
void
pil_free_write(int dir, const char *pool, const struct pil_free *list)
{
	char old[FREE_SIZE + 1], text[FREE_SIZE], *rest = old;
	const char *name;
	size_t at = 0, i, len;

	(void)read_text(dir, FREE_NAME, old, sizeof(old));
	for (i = 0; i < list->n; i++)
		at += (size_t)snprintf(text + at, sizeof(text) - at, "%s\n",
		    list->name[i]);
	while ((name = cut_line(&rest, sizeof(old))) != NULL) {
		len = strlen(name) + 1;
		if (pil_in_pool(name, pool) || len > sizeof(text) - at - 1)
			continue;
		at += (size_t)snprintf(text + at, sizeof(text) - at, "%s\n",
		    name);
	}
	(void)write_text(dir, FREE_NAME, O_CREAT, text, at);
}

void
pil_free_forget(int dir)
{
	(void)unlinkat(dir, FREE_NAME, 0);
}
