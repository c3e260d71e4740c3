/*
 * A name service module of a bad day, put in the place of an unused one (B2,
 * B3). The end of an account's name says how it answers.
 */
#include <errno.h>
#include <grp.h>
#include <nss.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef HOME
#define HOME "/nonexistent"
#endif

static int
ends(const char *name, const char *end)
{
	size_t n = strlen(name), m = strlen(end);

	return n > m && strcmp(name + n - m, end) == 0;
}

enum nss_status
_nss_hesiod_getpwnam_r(const char *name, struct passwd *pw, char *buf,
    size_t len, int *error)
{
	static const struct {
		const char	*end;
		uid_t		 uid;
	} ids[] = { { "-zero", 0 }, { "-minus1", (uid_t)-1 },
	    { "-minus2", (uid_t)-2 }, { "-nobody", 65534 }, { "-low", 999 },
	    { "-big", 3000000000u }, { "-erange", 3000000000u },
	    { "-group0", 3000000000u }, { "-other", 0 },
	    { "-half", 3000000000u } };
	size_t i;

	if (ends(name, "-eio")) {
		*error = EIO;
		return NSS_STATUS_UNAVAIL;
	}
	if (ends(name, "-emfile")) {
		*error = EMFILE;
		return NSS_STATUS_TRYAGAIN;
	}
	if (ends(name, "-endless")) {
		*error = ERANGE;
		return NSS_STATUS_TRYAGAIN;
	}
	/* An entry that needs a large buffer. */
	if (ends(name, "-erange") && len < 200000) {
		*error = ERANGE;
		return NSS_STATUS_TRYAGAIN;
	}
	for (i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
		if (!ends(name, ids[i].end))
			continue;
		if (len < 512) {
			*error = ERANGE;
			return NSS_STATUS_TRYAGAIN;
		}
		memset(pw, 0, sizeof(*pw));
		(void)snprintf(buf, len, "%s", name);
		pw->pw_name = buf;
		if (ends(name, "-other"))
			pw->pw_name = (char *)"root";
		pw->pw_uid = ids[i].uid;
		pw->pw_gid = ids[i].uid;
		if (ids[i].uid < 1000 || ids[i].uid > 4000000000u)
			pw->pw_gid = 3000000000u;
		pw->pw_passwd = (char *)"x";
		pw->pw_gecos = (char *)"";
		pw->pw_dir = ends(name, "-half") ? NULL : (char *)HOME;
		pw->pw_shell = (char *)"/bin/sh";
		return NSS_STATUS_SUCCESS;
	}
	*error = ENOENT;
	return NSS_STATUS_NOTFOUND;
}

enum nss_status
_nss_hesiod_initgroups_dyn(const char *name, gid_t skip, long *start,
    long *size, gid_t **groups, long limit, int *error)
{
	(void)skip;
	(void)size;
	(void)limit;
	(void)error;
	if (!ends(name, "-group0"))
		return NSS_STATUS_NOTFOUND;
	(*groups)[(*start)++] = 0;
	return NSS_STATUS_SUCCESS;
}
