/* Start a program with the environment of a bad day (A5). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *const names[] = { "LD_PRELOAD", "LD_LIBRARY_PATH",
	"LD_AUDIT", "LD_DEBUG", "LD_DEBUG_OUTPUT", "GLIBC_TUNABLES",
	"GCONV_PATH", "MALLOC_TRACE", "MALLOC_CHECK_", "LOCPATH", "NLSPATH",
	"RES_OPTIONS", "HOSTALIASES", "LOCALDOMAIN", "TMPDIR", "TZ", "TZDIR",
	"OPENSSL_CONF", "OPENSSL_MODULES", "OPENSSL_ENGINES", "SSL_CERT_FILE",
	"SSL_CERT_DIR", "X509_CERT_DIR", "X509_VOMS_DIR", "X509_USER_PROXY",
	"X509_USER_CERT", "X509_USER_KEY", "PYTHONPATH", "PYTHONHOME",
	"PYTHONSTARTUP", "PYTHONINSPECT", "PERL5LIB", "PERL5OPT", "RUBYLIB",
	"NODE_OPTIONS", "BASH_ENV", "ENV", "IFS", "PATH", "CDPATH", "SHELLOPTS",
	"PS4", "PROMPT_COMMAND", "BASH_FUNC_id%%", "BASH_FUNC_ls()", "HOME",
	"USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "LANGUAGE", "TERMINFO",
	"TERM", "TERMCAP", "INPUTRC", "EDITOR", "PAGER", "LESSOPEN", "DISPLAY",
	"XAUTHORITY", "SSH_AUTH_SOCK", "DBUS_SESSION_BUS_ADDRESS",
	"XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "KRB5CCNAME", "KRB5_CONFIG",
	"GETCONF_DIR", "NIS_PATH", "PILOTAGE_CONFIG", "PILOTAGE_RUN_ID",
	"PILOTAGE_JOB_ID", "PILOTAGE_RUN_DIR", "GLEXEC_CLIENT_CERT",
	"GLEXEC_TARGET_PROXY", "ASAN_OPTIONS", "UBSAN_OPTIONS", "SUDO_USER",
	"SUDO_UID", "PKEXEC_UID", "LD_BIND_NOW", "LD_ORIGIN_PATH", "LD_PROFILE",
	"LD_SHOW_AUXV", "LD_USE_LOAD_BIAS", "LD_DYNAMIC_WEAK", "NIS_DOMAIN",
	"OPENSSL_ia32cap", "RANDFILE", "SYSTEMD_LOG_LEVEL", "NOTIFY_SOCKET",
	"JOURNAL_STREAM", "LISTEN_FDS", "http_proxy", "https_proxy", "CURL_HOME",
	"JAVA_TOOL_OPTIONS", "LUA_INIT", "GIT_SSH", "MANPATH", "INFOPATH" };

int
main(int argc, char **argv)
{
	size_t known = sizeof(names) / sizeof(names[0]), n = 0, i;
	char **environment = calloc(600, sizeof(char *));
	char *big = malloc(128 * 1024);

	if (argc < 2 || environment == NULL || big == NULL)
		return 99;
	/* 200 names, each twice: some that matter, then invented ones. */
	for (i = 0; i < 400; i++) {
		char *entry = malloc(128);

		if (entry == NULL)
			return 99;
		if (i < 2 * known)
			snprintf(entry, 128, "%s=/tmp/evil%zu", names[i / 2], i);
		else
			snprintf(entry, 128, i % 4 < 2 ?
			    "BASH_FUNC_evil%zu%%%%=() { :;}; id" :
			    "EVIL_%zu=/tmp/evil", i / 2);
		environment[n++] = entry;
	}
	/* The longest entry that the kernel takes. */
	memset(big, 'A', 128 * 1024);
	memcpy(big, "BIG=", 4);
	big[128 * 1024 - 1] = '\0';
	environment[n++] = big;
	environment[n++] = "NO_EQUALS_SIGN";
	environment[n++] = "";
	environment[n++] = "=value";
	execve(argv[1], argv + 1, environment);
	perror("execve");
	return 98;
}
