/*
 * LCAS's files: allowed users, time slots, permitted executables.
 */
#include <stdlib.h>
#include <time.h>

#include "map/commands.h"
#include "map/timeslots.h"
#include "mapping.h"

static void
only_listed_owners_pass_an_allow_list(void **state)
{
	(void)state;
	write_file("map", "\"/O=Grid/CN=a\" demo1\n\"/vo\" demo1\n");
	options.allowed_users = at("allowed");
	assert_int_equal(map_by(NULL), PIL_MAP_FILE_UNUSABLE);
	write_file("allowed", "# nobody\n");
	assert_int_equal(map_by(NULL), PIL_OWNER_NOT_LISTED);
	write_file("allowed", "\"/O=Grid/CN=b\"\n\"/O=Grid/CN=a\" ignored\n");
	assert_int_equal(map_by(NULL), PIL_OK);
	/* Exactly: neither a beginning nor a star. */
	write_file("allowed", "\"/O=Grid\"\n\"/O=Grid/*\"\n\"/O=Grid/CN=*\"\n");
	assert_int_equal(map_by(NULL), PIL_OWNER_NOT_LISTED);
	/* An attribute is no person. */
	is_owner("/O=Grid/CN=a", "/vo");
	write_file("allowed", "\"/O=Grid/CN=a\"\n\"/vo\"\n");
	assert_int_equal(map_by(NULL), PIL_MAP_FILE_MALFORMED);
	assert_non_null(strstr(result.detail, "1 broken, line 2"));
	/* A ban comes before it. */
	write_file("allowed", "\"/O=Grid/CN=a\"\n");
	options.ban_file = at("ban");
	write_file("ban", "\"/O=Grid/CN=a\"\n");
	assert_int_equal(map_by(NULL), PIL_OWNER_BANNED);
	/* Two files ban together. */
	options.second_ban_file = at("ban2");
	assert_int_equal(map_by(NULL), PIL_MAP_FILE_UNUSABLE);
	write_file("ban2", "\"/x\"\n");
	assert_int_equal(map_by(NULL), PIL_OWNER_BANNED);
	write_file("ban", "\"/x\"\n");
	assert_int_equal(map_by(NULL), PIL_OK);
	write_file("ban2", "\"/vo\"\n");
	assert_int_equal(map_by(NULL), PIL_OWNER_BANNED);
}

/* Year, month, day, hour, minute. */
static struct tm
moment(const char *text)
{
	struct tm tm;

	memset(&tm, 0, sizeof(tm));
	assert_non_null(strptime(text, "%Y-%m-%d %H:%M", &tm));
	tm.tm_isdst = -1;
	(void)mktime(&tm);
	return tm;
}

static void
a_time_slot_holds_from_its_beginning_to_its_end(void **state)
{
	static const struct {
		const char	*line, *when;
		int		 holds;
	} cases[] = {
		{ "* * * * * *", "2026-11-28 17:29", 1 },
		/* LCAS's own examples: working days, a winter, a night. */
		{ "30-0 8-18 * * * 1-5", "2026-11-27 08:30", 1 },
		{ "30-0 8-18 * * * 1-5", "2026-11-27 08:29", 0 },
		{ "30-0 8-18 * * * 1-5", "2026-11-27 18:00", 1 },
		{ "30-0 8-18 * * * 1-5", "2026-11-27 18:01", 0 },
		{ "30-0 8-18 * * * 1-5", "2026-11-28 12:00", 0 },
		{ "* * 1-15 7-1 2002-2003 *", "2002-06-30 12:00", 0 },
		{ "* * 1-15 7-1 2002-2003 *", "2002-07-01 00:00", 1 },
		{ "* * 1-15 7-1 2002-2003 *", "2003-01-15 23:59", 1 },
		{ "* * 1-15 7-1 2002-2003 *", "2003-01-16 00:00", 0 },
		{ "0-0 18-24 * * * *", "2026-11-28 23:59", 1 },
		{ "0-0 18-24 * * * *", "2026-11-28 17:59", 0 },
		{ "0-0 0-7 * * * *", "2026-11-28 07:00", 1 },
		{ "0-0 0-7 * * * *", "2026-11-28 07:01", 0 },
		/* Friday to Wednesday; 2026-11-26 was a Thursday. */
		{ "* * * * * 5-3", "2026-11-26 12:00", 0 },
		{ "* * * * * 5-3", "2026-11-27 12:00", 1 },
		{ "* * * * * 5-3", "2026-11-29 12:00", 1 },
		{ "* * * * * 5-3", "2026-11-25 12:00", 1 },
		{ "* * * * 2026- *", "2025-12-31 23:59", 0 },
		{ "* * * * 2026- *", "2027-01-01 00:00", 1 },
		{ "* 12 * * * 6 # noon of Saturdays", "2026-11-28 12:59", 1 },
		{ "* 12 * * * 6", "2026-11-28 13:00", 0 },
		{ "", "2026-11-28 12:00", -1 },
		{ "* * * * *", "2026-11-28 12:00", -1 },
		{ "* * * * * * *", "2026-11-28 12:00", -1 },
		{ "60 * * * * *", "2026-11-28 12:00", -1 },
		{ "* 25 * * * *", "2026-11-28 12:00", -1 },
		{ "* 24-24 * * * *", "2026-11-28 12:00", -1 },
		{ "* * 0 * * *", "2026-11-28 12:00", -1 },
		{ "* * * 13 * *", "2026-11-28 12:00", -1 },
		{ "* * * * 1969 *", "2026-11-28 12:00", -1 },
		{ "* * * * * 7", "2026-11-28 12:00", -1 },
		{ "* 18-7 * * * *", "2026-11-28 20:00", -1 },
		{ "* * * * 2003-2002 *", "2026-11-28 20:00", -1 },
		{ "-5 * * * * *", "2026-11-28 12:00", -1 },
		{ "1-2-3 * * * * *", "2026-11-28 12:00", -1 },
		{ "** * * * * *", "2026-11-28 12:00", -1 },
		{ "00000 * * * * *", "2026-11-28 12:00", -1 },
		{ "1,2 * * * * *", "2026-11-28 12:00", -1 },
	};
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct tm now = moment(cases[i].when);

		if (pil_timeslot(cases[i].line, &now) != cases[i].holds)
			fail_msg("%s at %s", cases[i].line, cases[i].when);
	}
}

static void
a_site_is_closed_outside_its_time_slots(void **state)
{
	struct tm when = moment("2026-11-27 12:00");

	(void)state;
	write_file("map", "\"/O=Grid/CN=a\" demo1\n");
	options.timeslots = at("slots");
	request.at = mktime(&when);
	assert_int_equal(map_by(NULL), PIL_MAP_FILE_UNUSABLE);
	write_file("slots", "# never\n");
	assert_int_equal(map_by(NULL), PIL_TIME_SLOT_CLOSED);
	write_file("slots", "* 13-18 * * * *\n* 8-11 * * * *\n");
	assert_int_equal(map_by(NULL), PIL_TIME_SLOT_CLOSED);
	assert_non_null(strstr(result.detail, "Fri 2026-11-27 12:00"));
	write_file("slots", "* 13-18 * * * *\n* 8-12 * * * *\n");
	assert_int_equal(map_by(NULL), PIL_OK);
	/* It holds, but a site cannot mean the other lines. */
	write_file("slots", "* * * * * *\nx\n* * *\n");
	assert_int_equal(map_by(NULL), PIL_MAP_FILE_MALFORMED);
	assert_non_null(strstr(result.detail, "2 broken, lines 2 3"));
}

static void
patterns_stay_inside_their_components(void **state)
{
	static const struct {
		const char	*pattern, *command;
		int		 fits;
	} cases[] = {
		{ "/bin/sh", "/bin/sh", 1 },
		{ "/bin/sh", "/bin/sh2", 0 },
		{ "/bin/sh", "/bin", 0 },
		{ "/bin/*", "/bin/sh", 1 },
		{ "/bin/*", "/bin/x/sh", 0 },
		{ "/bin/*", "/bin", 0 },
		{ "/*/sh", "/bin/sh", 1 },
		{ "/*/sh", "/usr/bin/sh", 0 },
		{ "/opt/py-?.1/bin/p*n", "/opt/py-3.1/bin/python", 1 },
		{ "/opt/", "/opt/a", 1 },
		{ "/opt/", "/opt/a/b", 1 },
		{ "/opt/", "/opt", 0 },
		{ "/opt/", "/opt2/a", 0 },
		{ "/opt/*/", "/opt/a/b", 1 },
		{ "/opt/*/", "/opt/a", 0 },
		{ "/", "/x", 1 },
		/* Nothing climbs. */
		{ "/opt/", "/opt/../bin/sh", 0 },
		{ "/opt/", "/opt/./sh", 0 },
		{ "/opt/", "/opt//sh", 0 },
		{ "/opt/", "/opt/sh/", 0 },
		{ "/opt/", "opt/sh", 0 },
		{ "/opt/", "", 0 },
		{ "/opt/.*", "/opt/..", 0 },
	};
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		if (pil_command_fits(cases[i].pattern, cases[i].command) !=
		    cases[i].fits)
			fail_msg("%s: %s", cases[i].pattern, cases[i].command);
}

static void
only_permitted_commands_pass(void **state)
{
	(void)state;
	write_file("map", "\"/O=Grid/CN=a\" demo1\n");
	options.permitted_executables = at("commands");
	assert_int_equal(map_by(NULL), PIL_MAP_FILE_UNUSABLE);
	(void)strcpy(request.command, "/bin/true");
	write_file("commands", "");
	assert_int_equal(map_by(NULL), PIL_COMMAND_FORBIDDEN);
	write_file("commands", "/bin/sh # shell\n\"/opt/my tool/\"\n/bin/t*\n");
	assert_int_equal(map_by(NULL), PIL_OK);
	(void)strcpy(request.command, "/opt/my tool/x");
	assert_int_equal(map_by(NULL), PIL_OK);
	(void)strcpy(request.command, "/usr/bin/true");
	assert_int_equal(map_by(NULL), PIL_COMMAND_FORBIDDEN);
	/* Which command it will be is not known yet. */
	request.command[0] = '\0';
	assert_int_equal(map_by(NULL), PIL_OK);
	write_file("commands", "/bin/sh\nbin\n/a/../b\n\"/a\n/a b\n\"/a\"b\n"
	    "/a//b\n//\n");
	assert_int_equal(map_by(NULL), PIL_MAP_FILE_MALFORMED);
	assert_non_null(strstr(result.detail, "7 broken, lines 2 3 4 5 6 7"));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(only_listed_owners_pass_an_allow_list),
		TEST(a_time_slot_holds_from_its_beginning_to_its_end),
		TEST(a_site_is_closed_outside_its_time_slots),
		TEST(patterns_stay_inside_their_components),
		TEST(only_permitted_commands_pass),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
