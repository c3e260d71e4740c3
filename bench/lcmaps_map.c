/*
 * lcmaps_map PROXY DATABASE CERTIFICATES VOMSDIR POLICY
 *
 * One mapping by LCMAPS, as gLExec asked for it: the proxy as a PEM string in,
 * an account out. The benchmark's yardstick; nothing of Pilotage uses it.
 */
#include <lcmaps/lcmaps_basic.h>

#include <err.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define PEM_MAX	(256 * 1024)

/* Declared by the header for old gLExec only when it is loaded by hand. */
int lcmaps_term(void);

static char pem[PEM_MAX];

int
main(int argc, char **argv)
{
	char *policies[1];
	gid_t *primary = NULL, *secondary = NULL;
	int nprimary = 0, nsecondary = 0;
	char *lease = NULL;
	FILE *file, *log;
	uid_t uid = 0;

	if (argc != 6)
		errx(2, "usage: lcmaps_map PROXY DATABASE CERTIFICATES "
		    "VOMSDIR POLICY");
	policies[0] = argv[5];
	if ((file = fopen(argv[1], "re")) == NULL ||
	    fread(pem, 1, sizeof(pem) - 1, file) == 0 || fclose(file) == EOF)
		err(1, "%s", argv[1]);
	if (setenv("LCMAPS_DB_FILE", argv[2], 1) == -1 ||
	    setenv("LCMAPS_DEBUG_LEVEL", "0", 1) == -1 ||
	    setenv("X509_CERT_DIR", argv[3], 1) == -1 ||
	    setenv("X509_VOMS_DIR", argv[4], 1) == -1)
		err(1, "environment");
	if ((log = fopen("/dev/null", "we")) == NULL)
		err(1, "/dev/null");
	if (lcmaps_init(log) != 0)
		errx(1, "lcmaps_init failed");
	if (lcmaps_run_with_pem_and_return_account(NULL, pem, -1, NULL, 1,
	    policies, &uid, &primary, &nprimary, &secondary, &nsecondary,
	    &lease) != 0)
		errx(1, "LCMAPS maps %s to nobody", argv[1]);
	(void)printf("%u %u %s\n", uid, nprimary > 0 ? primary[0] : 0,
	    lease != NULL ? lease : "");
	return lcmaps_term() == 0 ? 0 : 1;
}
