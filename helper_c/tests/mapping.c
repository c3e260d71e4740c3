#include <sys/stat.h>

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <stdlib.h>
#include <unistd.h>

#include "mapping.h"

struct pil_map_config options;
struct pil_map_request request;
struct pil_mapping result;
int database_error;
static char root[64], kept[128][128];

int
getpwnam_r(const char *name, struct passwd *pw, char *buf, size_t size,
    struct passwd **found)
{
	static char home[] = "/home/x";

	*found = NULL;
	if (database_error != 0)
		return database_error;
	if (size < 20000)
		return ERANGE;
	memset(pw, 0, sizeof(*pw));
	/* This database ignores case, as some do. */
	(void)strcpy(buf, strcmp(name, "Upper") == 0 ? "upper" : name);
	pw->pw_name = buf;
	pw->pw_dir = home;
	pw->pw_gid = 5000;
	if (strncmp(name, "demo", 4) == 0 || strcmp(name, "Upper") == 0)
		pw->pw_uid = 20000 + (uid_t)atoi(name + 4);
	else if (strncmp(name, "uid", 3) == 0)
		pw->pw_uid = (uid_t)strtoul(name + 3, NULL, 10);
	else if (strncmp(name, "gid", 3) == 0) {
		pw->pw_uid = 20000;
		pw->pw_gid = (gid_t)strtoul(name + 3, NULL, 10);
	} else
		return 0;
	*found = pw;
	return 0;
}

int
getgrnam_r(const char *name, struct group *gr, char *buf, size_t size,
    struct group **found)
{
	*found = NULL;
	if (database_error != 0)
		return database_error;
	if (size < 20000)
		return ERANGE;
	if (strncasecmp(name, "group", 5) != 0)
		return 0;
	memset(gr, 0, sizeof(*gr));
	(void)strcpy(buf, name);
	(void)memcpy(buf, "group", 5);
	gr->gr_name = buf;
	gr->gr_gid = (gid_t)strtoul(name + 5, NULL, 10);
	*found = gr;
	return 0;
}

int
getgrouplist(const char *user, gid_t group, gid_t *groups, int *n)
{
	int i, want = strcmp(user, "demo98") == 0 ? *n + 1 : 2;

	if (want > *n)
		return -1;
	for (i = 0; i < want; i++)
		groups[i] = i == 0 ? group : 6000;
	if (strcmp(user, "demo97") == 0)
		groups[1] = 0;
	*n = want;
	return want;
}

const char *
at(const char *name)
{
	char path[sizeof(kept[0])];
	size_t i = 0;

	(void)snprintf(path, sizeof(path), "%s/%s", root, name);
	while (kept[i][0] != '\0' && strcmp(kept[i], path) != 0)
		assert_true(++i < sizeof(kept) / sizeof(kept[0]));
	(void)strcpy(kept[i], path);
	return kept[i];
}

void
write_bytes(const char *name, const char *bytes, size_t len)
{
	char path[sizeof(kept[0])];
	int fd;

	(void)snprintf(path, sizeof(path), "%s/%s", root, name);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
	assert_true(fd != -1);
	assert_int_equal(write(fd, bytes, len), (ssize_t)len);
	(void)close(fd);
}

void
write_file(const char *name, const char *text)
{
	write_bytes(name, text, strlen(text));
}

void
is_owner(const char *dn, const char *fqans)
{
	struct pil_identity *who = &request.who;
	char copy[1024], *rest, *fqan;

	memset(who, 0, sizeof(*who));
	(void)snprintf(who->dn, sizeof(who->dn), "%s", dn);
	(void)snprintf(copy, sizeof(copy), "%s", fqans);
	for (fqan = strtok_r(copy, " ", &rest); fqan != NULL;
	    fqan = strtok_r(NULL, " ", &rest))
		(void)snprintf(who->fqan[who->fqan_count++],
		    sizeof(who->fqan[0]), "%s", fqan);
}

enum pil_reason
map_by(const char *policy)
{
	const char *wrong;

	options.policy_text = policy;
	free(options.policy_words);
	if ((wrong = pil_map_config_judge(&options)) != NULL)
		fail_msg("%s: %s", policy, wrong);
	return pil_map(&options, &request, &result);
}

int
set_up(void **state)
{
	static char map[128];

	(void)state;
	(void)strcpy(root, "/tmp/pilotage-map-XXXXXX");
	if (mkdtemp(root) == NULL || pil_map_request_init(&request) == -1)
		return -1;
	request.min_uid = request.min_gid = 1000;
	request.caller = 20050;
	request.caller_gid = 7000;
	request.verifier_uid = 20051;
	request.verifier_gid = 7001;
	database_error = 0;
	memset(kept, 0, sizeof(kept));
	memset(&options, 0, sizeof(options));
	options.any_owner = 1;
	(void)snprintf(map, sizeof(map), "%s/map", root);
	options.grid_mapfile = map;
	is_owner("/O=Grid/CN=a", "");
	return 0;
}

int
tear_down(void **state)
{
	char command[128];

	(void)state;
	free(options.policy_words);
	(void)snprintf(command, sizeof(command), "rm -rf %s", root);
	return system(command);
}
