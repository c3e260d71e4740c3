/*
 * LCAS's timeslots.db.
 */
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "base/words.h"
#include "map/lines.h"
#include "map/timeslots.h"

enum field { MINUTE, HOUR, MDAY, MONTH, YEAR, WDAY, NFIELDS };

/* An hour may be 24, as the end of a day. */
static const struct range {
	long	 from, to;
} widest[NFIELDS] = {
	{ 0, 59 }, { 0, 24 }, { 1, 31 }, { 1, 12 }, { 1970, 9999 }, { 0, 6 }
};

static int
number(const char **p, long *out)
{
	size_t len = strspn(*p, "0123456789");

	if (len == 0 || len > 4)
		return -1;
	*out = strtol(*p, NULL, 10);
	*p += len;
	return 0;
}

static int
parse(const char *word, enum field field, struct range *range)
{
	const struct range *most = &widest[field];

	*range = *most;
	if (strcmp(word, "*") == 0)
		return 0;
	if (number(&word, &range->from) == -1)
		return -1;
	if (*word == '\0')
		range->to = range->from;
	else if (*word++ != '-' ||
	    (*word != '\0' && number(&word, &range->to) == -1) ||
	    *word != '\0')
		return -1;
	return range->from >= most->from && range->from <= most->to &&
	    range->to >= most->from && range->to <= most->to ? 0 : -1;
}

static long
minutes(long hour, long minute)
{
	return hour * 60 + minute;
}

static long
days(long year, long month, long mday)
{
	return (year * 12 + month) * 31 + mday;
}

static int
within(long from, long now, long to)
{
	return from <= now && now <= to;
}

int
pil_timeslot(const char *line, const struct tm *now)
{
	struct range r[NFIELDS];
	struct range time, date;
	char word[16];
	int i;

	for (i = 0; i < NFIELDS; i++)
		if (!pil_word_next(&line, word, sizeof(word)) ||
		    parse(word, (enum field)i, &r[i]) == -1)
			return -1;
	if (pil_word_next(&line, word, sizeof(word)) && word[0] != '#')
		return -1;
	time.from = minutes(r[HOUR].from, r[MINUTE].from);
	time.to = minutes(r[HOUR].to, r[MINUTE].to);
	date.from = days(r[YEAR].from, r[MONTH].from, r[MDAY].from);
	date.to = days(r[YEAR].to, r[MONTH].to, r[MDAY].to);
	/* Two lines are needed for a night, so this one is a mistake. */
	if (time.from > time.to || date.from > date.to || r[HOUR].from == 24)
		return -1;
	return within(time.from, minutes(now->tm_hour, now->tm_min),
	    time.to) &&
	    within(date.from, days(now->tm_year + 1900, now->tm_mon + 1,
	    now->tm_mday), date.to) &&
	    (r[WDAY].from <= r[WDAY].to ?
	    within(r[WDAY].from, now->tm_wday, r[WDAY].to) :
	    now->tm_wday >= r[WDAY].from || now->tm_wday <= r[WDAY].to);
}

struct clock {
	struct tm	 now;
	int		 open;
};

static int
take(void *arg, char *line)
{
	struct clock *clock = arg;
	int holds = pil_timeslot(line, &clock->now);

	clock->open |= holds == 1;
	return holds == -1 ? -1 : 0;
}

enum pil_reason
pil_timeslots_check(const char *path, int any_owner, int64_t at, char *detail)
{
	struct clock clock = { .open = 0 };
	const time_t seconds = (time_t)at;
	enum pil_reason reason;
	char when[32], *text;

	if (localtime_r(&seconds, &clock.now) == NULL ||
	    strftime(when, sizeof(when), "%a %Y-%m-%d %H:%M %z",
	    &clock.now) == 0) {
		pil_detail(detail, "the time has no local form");
		return PIL_TIME_SLOT_CLOSED;
	}
	reason = pil_lines_read(path, any_owner, &text, take, &clock, detail);
	free(text);
	if (reason != PIL_OK || clock.open)
		return reason;
	pil_detail(detail, "no line of %s holds at %s", path, when);
	return PIL_TIME_SLOT_CLOSED;
}
