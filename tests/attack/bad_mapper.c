/*
 * In the place of pilotage-map, as a site's name service module that was taken
 * over could make it (B4). The command that the caller wants to run says what
 * it answers: "/uid=N,gid=N,group=N,account=NAME,home=PATH,reason=N".
 */
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/sha256.c"
#include "pilotage/map.h"

static unsigned long
number(const char *text, const char *name, unsigned long otherwise)
{
	const char *at = strstr(text, name);

	return at != NULL ? strtoul(at + strlen(name), NULL, 10) : otherwise;
}

static void
word(const char *text, const char *name, char *out, size_t size)
{
	const char *at = strstr(text, name);

	if (at == NULL)
		return;
	at += strlen(name);
	(void)snprintf(out, size, "%.*s", (int)strcspn(at, ","), at);
}

int
main(void)
{
	static struct pil_map_request request;
	static struct pil_map_record record;
	const char *order = request.command;
	size_t len = 0;
	ssize_t n;

	while (len < sizeof(request) && (n = read(0, (char *)&request + len,
	    sizeof(request) - len)) > 0)
		len += (size_t)n;
	if (len != sizeof(request))
		return 1;
	memcpy(record.magic, PIL_MAP_MAGIC, 8);
	memcpy(record.tail, PIL_MAP_MAGIC, 8);
	record.version = PIL_MAP_VERSION;
	record.size = sizeof(record);
	memcpy(record.nonce, request.nonce, sizeof(record.nonce));
	pil_sha256(&request, offsetof(struct pil_map_request, who.fqan) +
	    request.who.fqan_count * PIL_NAME_SIZE, record.digest);
	record.reason = (int)number(order, "reason=", 0);
	(void)strcpy(record.map.home, "/nonexistent");
	word(order, "account=", record.map.account, sizeof(record.map.account));
	word(order, "home=", record.map.home, sizeof(record.map.home));
	record.map.uid = (unsigned)number(order, "uid=", 3000000000u);
	record.map.gid = (unsigned)number(order, "gid=", 3000000000u);
	record.map.ngroups = (unsigned)number(order, "groups=", 1);
	record.map.groups[0] = (unsigned)number(order, "group=", 3000000000u);
	(void)!write(1, &record, sizeof(record));
	return 0;
}
