/*
 * A home that the next owner may have: nothing of the last one's is in there,
 * and nothing that would let anybody put something there later.
 */
#include <sys/stat.h>
#include <sys/xattr.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/text.h"
#include "base/trusted.h"
#include "mapper/home.h"

#define SKELETON	"/etc/skel"
#define FILE_MAX	(64 * 1024)
#define OPEN_FILE	(O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC)

/* Access lists, and data that would outlive their owner; labels are root's. */
static int
has_attributes(int fd)
{
	char names[4096], *name;
	ssize_t len = flistxattr(fd, names, sizeof(names));

	if (len == -1)
		return errno != ENOTSUP;
	for (name = names; name < names + len; name += strlen(name) + 1)
		if (strncmp(name, "security.", 9) != 0 ||
		    strcmp(name, "security.capability") == 0)
			return 1;
	return 0;
}

static int
same_content(int left, int right)
{
	static char a[FILE_MAX], b[FILE_MAX];
	long n = pil_read_all(left, a, sizeof(a));

	return n != -1 && pil_read_all(right, b, sizeof(b)) == n &&
	    memcmp(a, b, (size_t)n) == 0;
}

/*
 * Nobody has it open or mapped to write: the last owner may have handed it to a
 * process of another account. The kernel gives no lease on such a file; and
 * where it gives none at all, that is not known.
 */
static int
is_shut(int fd)
{
	return fcntl(fd, F_SETLEASE, F_RDLCK) == 0 &&
	    fcntl(fd, F_SETLEASE, F_UNLCK) == 0;
}

static int
is_copy(int fd, int original, uid_t uid)
{
	struct stat st, skel;

	return fstat(fd, &st) == 0 && fstat(original, &skel) == 0 &&
	    S_ISREG(st.st_mode) && S_ISREG(skel.st_mode) &&
	    (st.st_uid == uid || st.st_uid == 0) && st.st_nlink == 1 &&
	    (st.st_mode & 07022) == 0 && !has_attributes(fd) &&
	    is_shut(fd) && same_content(fd, original);
}

static int
is_skeleton(int home, int skeleton, const char *name, uid_t uid)
{
	int fd, original, same = 0;

	if (skeleton == -1)
		return 0;
	fd = openat(home, name, OPEN_FILE);
	original = openat(skeleton, name, OPEN_FILE);
	if (fd != -1 && original != -1)
		same = is_copy(fd, original, uid);
	if (fd != -1)
		(void)close(fd);
	if (original != -1)
		(void)close(original);
	return same;
}

/* Takes and closes the directory. */
static int
look_into(int fd, const char *path, uid_t uid, char *detail)
{
	char ignored[PIL_DETAIL_SIZE];
	struct dirent *entry;
	int skeleton, found = 0;
	DIR *dir;

	if ((dir = fdopendir(fd)) == NULL) {
		pil_detail(detail, "%s: %s", path, strerror(errno));
		(void)close(fd);
		return -1;
	}
	skeleton = pil_open_trusted(SKELETON, O_RDONLY | O_DIRECTORY, 0,
	    ignored);
	while (!found && (errno = 0, entry = readdir(dir)) != NULL)
		if (strcmp(entry->d_name, ".") != 0 &&
		    strcmp(entry->d_name, "..") != 0 &&
		    !is_skeleton(fd, skeleton, entry->d_name, uid)) {
			pil_detail(detail, "its home holds %s", entry->d_name);
			found = 1;
		}
	if (!found && errno != 0) {
		pil_detail(detail, "%s: %s", path, strerror(errno));
		found = 1;
	}
	if (skeleton != -1)
		(void)close(skeleton);
	(void)closedir(dir);
	return found ? -1 : 0;
}

int
home_is_new(const char *path, uid_t uid, char *detail)
{
	int fd = open(path, OPEN_FILE | O_DIRECTORY);
	struct stat st;

	/* Runs are refused as long as it is missing. */
	if (fd == -1 && errno == ENOENT)
		return 0;
	if (fd == -1 || fstat(fd, &st) == -1) {
		pil_detail(detail, "%s: %s", path, strerror(errno));
		if (fd != -1)
			(void)close(fd);
		return -1;
	}
	if (st.st_uid != uid || (st.st_mode & 07022) != 0 ||
	    has_attributes(fd)) {
		pil_detail(detail, "its home is not its own alone: owner, "
		    "mode, access list or attributes");
		(void)close(fd);
		return -1;
	}
	return look_into(fd, path, uid, detail);
}
