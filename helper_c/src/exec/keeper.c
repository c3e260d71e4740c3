/*
 * The child of the split. Its first act makes it root in all ids, so that the
 * caller can neither signal nor stop it; its second is to become
 * pilotage-keep, with nothing of the caller's but descriptors 0 to 2 and the
 * groups, which the proxies are read with.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include "base/text.h"
#include "exec/keeper.h"
#include "privsep/handover.h"
#include "privsep/message.h"
#include "privsep/switch.h"
#include "privsep/sys.h"

#define ASIDE	16	/* beyond the descriptors that keep has */

static void
fail(int front, enum pil_reason reason, const char *what)
{
	char detail[PIL_DETAIL_SIZE];

	pil_detail(detail, "%s: %s", what, strerror(errno));
	message_send(front, MESSAGE_REFUSED, 202, reason, detail,
	    strlen(detail));
	_exit(202);
}

/* Out of the way first, so that neither lands on the other. */
static int
place(int *front, int *handover)
{
	int moved;

	if ((moved = fcntl(*front, F_DUPFD_CLOEXEC, ASIDE)) == -1)
		return -1;
	*front = moved;
	if ((*handover = fcntl(*handover, F_DUPFD_CLOEXEC, ASIDE)) == -1 ||
	    dup2(*handover, HANDOVER_FD) == -1 ||
	    dup2(*front, HANDOVER_FRONT_FD) == -1)
		return -1;
	*front = HANDOVER_FRONT_FD;
	return sys_close_from(HANDOVER_FD + 1);
}

void
keeper(const struct call *call, int front, int handover, int plain)
{
	char *keep[] = { (char *)(uintptr_t)"pilotage-keep", NULL };
	char *logonly[] = { (char *)(uintptr_t)"pilotage-logonly", NULL };
	char *nothing[] = { NULL };

	if ((plain ? switch_to_caller(&call->pilot) : switch_to_root()) == -1)
		fail(front, PIL_SWITCH_FAILED, "monitor");
	if (place(&front, &handover) == -1)
		fail(front, PIL_HELPER_SYSTEM, "descriptors");
	if (plain) {
		(void)execve(PILOTAGE_LOGONLY, logonly, nothing);
		fail(front, PIL_HELPER_SYSTEM, PILOTAGE_LOGONLY);
	}
	(void)execve(PILOTAGE_KEEP, keep, nothing);
	fail(front, PIL_HELPER_SYSTEM, PILOTAGE_KEEP);
	_exit(202);	/* never reached; fail safe */
}
