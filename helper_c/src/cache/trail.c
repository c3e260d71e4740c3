/*
 * Write a trail down while a chain is verified, and walk it again later: the
 * same steps in the same order, with stat(2) in place of open and read.
 *
 * A file is taken for unchanged when its inode, size, times, rights and owner
 * are. The kernel's clock for such times is coarse, so a file that was changed
 * shortly before it was read could change once more without a trace: such a
 * trail is useless (git calls such files racy). So is one that leads to a file
 * system whose attributes may be old news, or through a clock that was set.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#include "cache/trail.h"

#define SECOND		((int64_t)1000000000)
#define RACY		(2 * SECOND)	/* ext3 keeps whole seconds only */
#define CLOCK_SET	(SECOND / 2)
#define DIRECTORIES	16		/* two, and one for each VO */
#define STEPS		1024
#define UNIQUE_MOUNT	0x4000u		/* STATX_MNT_ID_UNIQUE, Linux 6.8 */

static int64_t
nanoseconds(int64_t seconds, uint32_t rest)
{
	return seconds * SECOND + (int64_t)rest;
}

static int
read_clock(clockid_t clock, int64_t *out)
{
	struct timespec t;

	if (clock_gettime(clock, &t) != 0)
		return 0;
	*out = nanoseconds(t.tv_sec, (uint32_t)t.tv_nsec);
	return 1;
}

/* Both clocks are slewed alike: their distance changes when one is set. */
static int
read_clocks(int64_t *now, int64_t *offset)
{
	int64_t steady;

	if (!read_clock(CLOCK_REALTIME, now) ||
	    !read_clock(CLOCK_MONOTONIC, &steady))
		return 0;
	*offset = *now - steady;
	return 1;
}

/*
 * Where stat(2) tells what open(2) and read(2) would meet. A network's file
 * system or one in user space may answer it from memory.
 */
static int
is_local(int fd)
{
	static const unsigned long types[] = {
		0xEF53,		/* ext2, ext3, ext4 */
		0x58465342,	/* XFS */
		0x9123683E,	/* Btrfs */
		0x01021994,	/* tmpfs */
		0x794C7630,	/* overlayfs */
		0x2FC12FC1,	/* ZFS */
		0xF2F52010,	/* F2FS */
	};
	struct statfs fs;
	size_t i;

	if (fstatfs(fd, &fs) != 0)
		return 0;
	for (i = 0; i < sizeof(types) / sizeof(types[0]); i++)
		if (((unsigned long)fs.f_type & 0xffffffffu) == types[i])
			return 1;
	return 0;
}

/* Of a directory only what decides where its names lead and who may write. */
static int
inode_of(int fd, const char *name, int flags, struct pil_inode *out)
{
	struct statx st;

	memset(out, 0, sizeof(*out));
	if (statx(fd, name, flags | AT_STATX_SYNC_AS_STAT,
	    STATX_BASIC_STATS | STATX_MNT_ID | UNIQUE_MOUNT, &st) != 0)
		return 0;
	out->device = (uint64_t)st.stx_dev_major << 32 | st.stx_dev_minor;
	out->number = st.stx_ino;
	out->mount = st.stx_mnt_id;
	out->mode = st.stx_mode;
	out->uid = st.stx_uid;
	out->gid = st.stx_gid;
	if (S_ISDIR(st.stx_mode))
		return 1;
	out->size = st.stx_size;
	out->mtime = nanoseconds(st.stx_mtime.tv_sec, st.stx_mtime.tv_nsec);
	out->ctime = nanoseconds(st.stx_ctime.tv_sec, st.stx_ctime.tv_nsec);
	return 1;
}

/* The directory with this descriptor, the last one that had it. */
static int
parent_of(const struct pil_trail *t, int fd)
{
	size_t i;

	if (fd == AT_FDCWD)
		return -1;
	for (i = t->count; i-- > 0;)
		if (t->steps[i].fd == fd)
			return (int)i;
	return -2;
}

static int
append(struct pil_trail *t, const struct pil_step *step, const char *name)
{
	size_t len = strlen(name) + 1;
	struct pil_step *steps;
	char *names;

	if (t->count >= STEPS)
		return 0;
	steps = realloc(t->steps, (t->count + 1) * sizeof(*steps));
	if (steps == NULL)
		return 0;
	t->steps = steps;
	if ((names = realloc(t->names, t->used + len)) == NULL)
		return 0;
	t->names = names;
	memcpy(names + t->used, name, len);
	steps[t->count] = *step;
	steps[t->count++].name = t->used;
	t->used += len;
	return 1;
}

/* A list is read once for each certificate of its authority. */
static int
known(struct pil_trail *t, const struct pil_step *step, const char *name)
{
	size_t i;

	for (i = 0; i < t->count; i++) {
		const struct pil_step *old = &t->steps[i];

		if (old->parent != step->parent || old->flags != step->flags ||
		    old->fd != -1 || strcmp(t->names + old->name, name) != 0)
			continue;
		if (old->found != step->found || memcmp(&old->inode,
		    &step->inode, sizeof(step->inode)) != 0)
			t->useless = 1;
		return 1;
	}
	return 0;
}

static void
take(struct pil_trail *t, int dir, const char *name, int flags, int fd,
    int error)
{
	struct pil_step step;

	memset(&step, 0, sizeof(step));
	step.parent = parent_of(t, dir);
	step.flags = flags;
	step.found = fd != -1;
	step.fd = flags & O_DIRECTORY ? fd : -1;
	/* No other error than "there is none" leaves a chain to be accepted. */
	if (step.parent == -2 || (fd == -1 && error != ENOENT) ||
	    (fd != -1 && (!inode_of(fd, "", AT_EMPTY_PATH, &step.inode) ||
	    !is_local(fd) || step.inode.ctime > t->start - RACY)))
		t->useless = 1;
	else if (step.fd != -1 || !known(t, &step, name))
		t->useless |= !append(t, &step, name);
}

static void
opened(struct pil_watch *watch, int dir, const char *name, int flags, int fd)
{
	struct pil_trail *t = (struct pil_trail *)watch;
	int error = errno;

	if (!t->useless)
		take(t, dir, name, flags, fd, error);
	errno = error;
}

/* Begin to watch; pil_trail_end() takes the memory back. */
void
pil_trail_begin(struct pil_trail *t)
{
	memset(t, 0, sizeof(*t));
	t->watch.opened = opened;
	t->strict = geteuid() == 0;
	t->useless = !read_clocks(&t->start, &t->offset);
}

/* Open a directory again as it was opened; its descriptor goes to *fd. */
static int
same_directory(const struct pil_step *step, int parent, const char *name,
    int *fd)
{
	struct pil_inode inode;

	*fd = openat(parent, name, step->flags);
	if (*fd == -1)
		return !step->found && errno == ENOENT;
	return step->found && inode_of(*fd, "", AT_EMPTY_PATH, &inode) &&
	    memcmp(&inode, &step->inode, sizeof(inode)) == 0;
}

static int
same_file(const struct pil_step *step, int parent, const char *name)
{
	struct pil_inode inode;

	if (!inode_of(parent, name, step->flags & O_NOFOLLOW ?
	    AT_SYMLINK_NOFOLLOW : 0, &inode))
		return !step->found && errno == ENOENT;
	return step->found &&
	    memcmp(&inode, &step->inode, sizeof(inode)) == 0;
}

/* The directories that were opened again so far, by their steps. */
struct again {
	size_t	 count;
	struct {
		size_t	 step;
		int	 fd;
	} dir[DIRECTORIES];
};

/* -1 when there is none, which cannot be: a parent comes first. */
static int
parent_again(const struct again *a, int parent)
{
	size_t i;

	if (parent == -1)
		return AT_FDCWD;
	for (i = 0; i < a->count; i++)
		if (a->dir[i].step == (size_t)parent)
			return a->dir[i].fd;
	return -1;
}

static int
walk(const struct pil_trail *t, struct again *a)
{
	size_t i;

	for (i = 0; i < t->count; i++) {
		const struct pil_step *step = &t->steps[i];
		const char *name = t->names + step->name;
		int parent = parent_again(a, step->parent);

		if (parent == -1)
			return 0;
		if ((step->flags & O_DIRECTORY) == 0) {
			if (!same_file(step, parent, name))
				return 0;
			continue;
		}
		if (a->count == DIRECTORIES)
			return 0;
		a->dir[a->count].step = i;
		if (!same_directory(step, parent, name,
		    &a->dir[a->count++].fd))
			return 0;
	}
	return 1;
}

/*
 * 1 when each step leads, now, to what it led to then: a verification that
 * opened its files at this moment would read the same bytes.
 */
int
pil_trail_same(const struct pil_trail *t)
{
	struct again again;
	int64_t now, offset, set;
	size_t i;
	int same;

	if (t->useless || t->strict != (geteuid() == 0) ||
	    !read_clocks(&now, &offset))
		return 0;
	set = offset - t->offset;
	if (set > CLOCK_SET || set < -CLOCK_SET)
		return 0;
	memset(&again, 0, sizeof(again));
	same = walk(t, &again);
	for (i = 0; i < again.count; i++)
		if (again.dir[i].fd != -1)
			(void)close(again.dir[i].fd);
	return same;
}

/* Bytes of memory, besides the structure. */
size_t
pil_trail_size(const struct pil_trail *t)
{
	return t->count * sizeof(*t->steps) + t->used;
}

void
pil_trail_end(struct pil_trail *t)
{
	free(t->steps);
	free(t->names);
	memset(t, 0, sizeof(*t));
}
