/*
 * glexec: gLExec's command line and variables, for callers that know nothing
 * of Pilotage.
 *
 * It has no privilege and decides nothing: it says the same in the words of
 * pilotage-exec, and becomes it. So the caller waits for, signals and kills the
 * one process, and descriptors 0 to 2 pass untouched, closed ones too.
 */
#include <errno.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define VERSION		"0.1.0"
#define CALLER		201	/* the caller's mistake */
#define SITE		202	/* the site's */
#define DENIED		203	/* not authorised */
#define ID_MAX		128	/* what pilotage-exec takes */
#define WORDS		14	/* of our own, at most */

static void refuse(int code, const char *fmt, ...)
    __attribute__((noreturn, format(printf, 2, 3)));

static void
refuse(int code, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	(void)fputs("[gLExec]:  ", stderr);
	(void)vfprintf(stderr, fmt, ap);
	(void)fputc('\n', stderr);
	va_end(ap);
	_exit(code);
}

static void
usage(void)
{
	(void)puts("usage: glexec [UID GID] [COMMAND [ARGUMENT ...]]\n"
	    "       glexec -h | -v\n\n"
	    "Runs COMMAND, an absolute path and no symbolic link, as the\n"
	    "local account of the owner of the proxy GLEXEC_CLIENT_CERT.\n"
	    "Without a command it only writes GLEXEC_TARGET_PROXY anew.\n"
	    "UID and GID belong to GLEXEC_MODE=lcmaps_verify_account.");
}

/* A variable that is set must say something. */
static const char *
path_of(const char *name)
{
	const char *value = getenv(name);

	if (value != NULL && *value == '\0')
		refuse(CALLER, "%s is empty", name);
	return value;
}

static const char *
target(void)
{
	const char *value = path_of("GLEXEC_TARGET_PROXY");

	if (value == NULL)
		return NULL;
	if (strcmp(value, "/dev/null") == 0)
		return "none";
	if (*value != '/')
		refuse(CALLER, "GLEXEC_TARGET_PROXY=%s is not an absolute "
		    "path", value);
	return value;
}

static int
verifies(void)
{
	const char *mode = getenv("GLEXEC_MODE");

	if (mode == NULL || strcmp(mode, "lcmaps_get_account") == 0)
		return 0;
	if (strcmp(mode, "lcmaps_verify_account") != 0)
		refuse(CALLER, "GLEXEC_MODE=%s: neither lcmaps_get_account nor "
		    "lcmaps_verify_account", mode);
	return 1;
}

static unsigned long
id_of(const char *text)
{
	size_t len = text != NULL ? strlen(text) : 0;

	if (len == 0 || len > 10 || strspn(text, "0123456789") != len)
		refuse(CALLER, "lcmaps_verify_account: the command line begins "
		    "with the account's uid and gid");
	return strtoul(text, NULL, 10);
}

/*
 * The account that is to be verified, by the two numbers that mean it. The gid
 * is the account's own here: whether the proxy maps to another one by groups
 * of its attributes is not for this program to know.
 */
static const char *
account(int argc, char **argv)
{
	unsigned long uid = id_of(argc > 1 ? argv[1] : NULL);
	unsigned long gid = id_of(argc > 2 ? argv[2] : NULL);
	struct passwd *pw;

	if (uid >= (uid_t)-1 || (pw = getpwuid((uid_t)uid)) == NULL ||
	    pw->pw_gid != gid)
		refuse(DENIED, "there is no account of uid %lu and gid %lu",
		    uid, gid);
	return pw->pw_name;
}

struct words {
	char	**list;
	size_t	  n;
};

/* execve() takes its list without const and changes nothing in it. */
static void
add(struct words *words, const char *word)
{
	union { const char *in; char *out; } as = { word };

	words->list[words->n++] = as.out;
}

static void
add_option(struct words *words, const char *name, const char *value)
{
	if (value == NULL)
		return;
	add(words, name);
	add(words, value);
}

int
main(int argc, char **argv)
{
	static char id[ID_MAX + 1];
	const char *client, *source, *text, *wanted = NULL;
	struct words words = { NULL, 0 };
	int i;

	if (argc == 2 && strcmp(argv[1], "-h") == 0) {
		usage();
		return 0;
	}
	if (argc == 2 && strcmp(argv[1], "-v") == 0) {
		(void)puts("glexec (Pilotage) " VERSION);
		return 0;
	}
	if (verifies()) {
		wanted = account(argc, argv);
		argc -= 2;
		argv += 2;
	}
	if (argc >= 2 && argv[1][0] != '/')
		refuse(CALLER, "%s: the command must be an absolute path",
		    argv[1]);
	if ((client = path_of("GLEXEC_CLIENT_CERT")) == NULL)
		refuse(DENIED, "GLEXEC_CLIENT_CERT is not set");
	source = path_of("GLEXEC_SOURCE_PROXY");
	if (source != NULL && strcmp(source, client) == 0)
		source = NULL;
	if ((text = getenv("GLEXEC_ID")) != NULL)
		(void)snprintf(id, sizeof(id), "%s", text);
	words.list = calloc((size_t)(argc > 0 ? argc : 1) + WORDS + 1,
	    sizeof(char *));
	if (words.list == NULL)
		refuse(SITE, "%s", strerror(errno));
	add(&words, "pilotage-exec");
	add(&words, "glexec");
	add_option(&words, "--proxy", client);
	add_option(&words, "--source-proxy", source);
	add_option(&words, "--target-proxy", target());
	add_option(&words, "--job-id", text != NULL ? id : NULL);
	add_option(&words, "--account", wanted);
	if (argc >= 2)
		add(&words, "--");
	for (i = 1; i < argc; i++)
		add(&words, argv[i]);
	(void)execv(PILOTAGE_EXEC, words.list);
	refuse(errno == E2BIG ? CALLER : SITE, PILOTAGE_EXEC ": %s",
	    strerror(errno));
}
