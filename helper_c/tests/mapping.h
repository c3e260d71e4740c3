/*
 * A user database and files of a test's own: mapping.c replaces getpwnam_r,
 * getgrnam_r and getgrouplist of the C library.
 *
 *	demoN		uid 20000 + N, groups 5000 and 6000; demo97 is in root's
 *			group, too, and demo98 in more than fit
 *	uidN		uid N
 *	gidN		uid 20000, group N
 *	Upper		is answered as "upper"
 *	groupN		gid N
 *	anything else	is not there
 */
#ifndef PILOTAGE_TEST_MAPPING_H
#define PILOTAGE_TEST_MAPPING_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "map/map.h"

extern struct pil_map_config options;
extern struct pil_map_request request;
extern struct pil_mapping result;
extern int database_error;	/* what each look-up of it answers; 0: none */

int		 set_up(void **state);
int		 tear_down(void **state);

/* The path of a file of this test, as long as the test. */
const char	*at(const char *name);
void		 write_file(const char *name, const char *text);
void		 write_bytes(const char *name, const char *bytes, size_t len);

/* The owner: a DN, and the FQANs with blanks between. */
void		 is_owner(const char *dn, const char *fqans);

/* Map the owner by this policy; a policy that is none fails the test. */
enum pil_reason	 map_by(const char *policy);

#define TEST(f)	cmocka_unit_test_setup_teardown(f, set_up, tear_down)

#endif
