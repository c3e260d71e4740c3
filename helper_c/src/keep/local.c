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

#include "base/text.h"
#include "base/trusted.h"
#include "keep/local.h"

#define ENTRY_SIZE	65536
#define FILE_MAX	(64 * 1024 * 1024)

/*
 * Read once, and searched in memory: reading an entry from a file asks the
 * kernel where the file stands, which for thousands of accounts takes long.
 */
int
local_find(const char *name, uid_t uid, struct passwd *pw)
{
	static char buf[ENTRY_SIZE], *text;
	static size_t len;
	char detail[PIL_DETAIL_SIZE];
	struct passwd *entry = NULL;
	FILE *file;
	int error;

	errno = EINVAL;
	if ((text == NULL && pil_read_trusted("/etc/passwd", 1, FILE_MAX, &text,
	    &len, detail) == -1) || (file = fmemopen(text, len, "r")) == NULL)
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
	int found = local_find(NULL, uid, &pw);

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
local_ids(const char *name, struct ids *ids)
{
	struct passwd pw;
	int found = local_find(name, 0, &pw);

	if (found == 1)
		*ids = (struct ids){ pw.pw_uid, pw.pw_gid };
	return found;
}
