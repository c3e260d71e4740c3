/*
 * The caller and the verifier's account, from /etc/passwd itself: asking the
 * name service would load the site's modules into root's program. Callers
 * that only a directory knows are named by their uid in the configuration.
 */
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>

#include "keep/local.h"

#define ENTRY_SIZE	65536

/* The first entry with this name or, when name is NULL, this uid. */
static int
find(const char *name, uid_t uid, struct passwd *pw)
{
	static char buf[ENTRY_SIZE];
	FILE *file = fopen("/etc/passwd", "re");
	struct passwd *entry = NULL;
	int error;

	if (file == NULL)
		return -1;
	while ((error = fgetpwent_r(file, pw, buf, sizeof(buf), &entry)) == 0)
		if (name != NULL ? strcmp(entry->pw_name, name) == 0 :
		    entry->pw_uid == uid)
			break;
	(void)fclose(file);
	errno = error;
	return error == 0 ? 1 : error == ENOENT ? 0 : -1;
}

int
local_name(uid_t uid, char *name, size_t size)
{
	struct passwd pw;
	int found = find(NULL, uid, &pw);

	if (found == 1 && strlen(pw.pw_name) < size)
		(void)snprintf(name, size, "%s", pw.pw_name);
	else
		(void)snprintf(name, size, "%u", uid);
	return found == -1 ? -1 : 0;
}

void
local_group(gid_t gid, char *name, size_t size)
{
	static char buf[ENTRY_SIZE];
	FILE *file = fopen("/etc/group", "re");
	struct group group, *entry = NULL;

	(void)snprintf(name, size, "%u", gid);
	if (file == NULL)
		return;
	while (fgetgrent_r(file, &group, buf, sizeof(buf), &entry) == 0)
		if (group.gr_gid == gid && strlen(group.gr_name) < size) {
			(void)snprintf(name, size, "%s", group.gr_name);
			break;
		}
	(void)fclose(file);
}

int
local_home(uid_t uid, char *home, size_t size)
{
	struct passwd pw;

	if (find(NULL, uid, &pw) != 1 || pw.pw_dir[0] != '/' ||
	    strlen(pw.pw_dir) >= size)
		return -1;
	(void)snprintf(home, size, "%s", pw.pw_dir);
	return 0;
}

int
local_ids(const char *name, struct ids *ids)
{
	struct passwd pw;
	int found = find(name, 0, &pw);

	if (found == 1)
		*ids = (struct ids){ pw.pw_uid, pw.pw_gid };
	return found;
}
