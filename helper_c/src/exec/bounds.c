/*
 * What a caller may do.
 *
 * A verifier that a hostile proxy has taken over can name any owner. These
 * bounds, which no proxy can change, are what it still cannot leave.
 */
#include <string.h>

#include "base/mapfile.h"
#include "base/names.h"
#include "base/text.h"
#include "exec/bounds.h"

const struct caller *
bounds_caller(const struct config *config, const char *name)
{
	size_t i;

	for (i = 0; i < config->ncallers; i++)
		if (strcmp(config->callers[i].name, name) == 0)
			return &config->callers[i];
	return NULL;
}

static int
in_list(const char *list, const char *text, int (*fits)(const char *,
    const char *))
{
	char item[PIL_NAME_SIZE];

	while (pil_mapping_next(&list, item, sizeof(item)))
		if (fits(item, text))
			return 1;
	return 0;
}

/* The VO is the first component of an FQAN. */
static int
is_vo_of(const char *vo, const char *fqan)
{
	size_t len = strlen(vo);

	return len > 0 && strncmp(fqan + 1, vo, len) == 0 &&
	    (fqan[len + 1] == '\0' || fqan[len + 1] == '/');
}

static int
is_account(const char *bound, const char *account)
{
	size_t len = strlen(bound);

	if (len > 0 && bound[len - 1] == '*')
		return strncmp(bound, account, len - 1) == 0;
	return strcmp(bound, account) == 0;
}

/*
 * Each FQAN may decide the account, so each must be of an allowed VO; the
 * first one, which the owner chose as the role, must be within the groups.
 */
enum pil_reason
bounds_owner(const struct caller *caller, const struct pil_identity *who,
    char *detail)
{
	uint32_t i;

	if (who->fqan_count == 0) {
		pil_detail(detail, "the proxy has no VOMS attributes, and "
		    "[caller %s] asks for a VO", caller->name);
		return PIL_CALLER_VO_BOUNDS;
	}
	for (i = 0; i < who->fqan_count; i++)
		if (!in_list(caller->vos, who->fqan[i], is_vo_of)) {
			pil_detail(detail, "[caller %s] does not list the VO "
			    "of %s", caller->name, who->fqan[i]);
			return PIL_CALLER_VO_BOUNDS;
		}
	if (caller->fqans != NULL &&
	    !in_list(caller->fqans, who->fqan[0], pil_fqan_below)) {
		pil_detail(detail, "[caller %s] does not list %s",
		    caller->name, who->fqan[0]);
		return PIL_CALLER_VO_BOUNDS;
	}
	return PIL_OK;
}

enum pil_reason
bounds_account(const void *arg, const char *account, uid_t uid, gid_t gid)
{
	const struct run *run = arg;

	if (uid == run->verifier.uid || gid == run->verifier.gid)
		return PIL_ACCOUNT_FORBIDDEN;
	return in_list(run->caller->accounts, account, is_account) ? PIL_OK :
	    PIL_CALLER_ACCOUNT_BOUNDS;
}
