/* LCAS's timeslots.db: when a site takes payloads. */
#ifndef PILOTAGE_MAP_TIMESLOTS_H
#define PILOTAGE_MAP_TIMESLOTS_H

#include <time.h>

#include "pilotage/map.h"

/*
 * One line: six ranges, minute hour mday month year wday, each "*", a number,
 * "from-" or "from-to". It holds from from's hour:minute to to's, both
 * included, on days from from's date to to's; weekdays, of which 0 is Sunday,
 * may go round. 1: now is within, 0: it is not, -1: no such line.
 */
int		pil_timeslot(const char *line, const struct tm *now);

/* PIL_OK when a line of the file holds at this time, as local clocks show it. */
enum pil_reason	pil_timeslots_check(const char *path, int any_owner,
		    int64_t at, char *detail);

#endif
