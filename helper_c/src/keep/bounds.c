/*
 * What a caller may do.
 *
 * A verifier that a hostile proxy has taken over can name any owner. These
 * bounds, which no proxy can change, are what it still cannot leave.
 */
#include <string.h>

#include "base/names.h"
#include "base/text.h"
#include "base/words.h"
#include "keep/bounds.h"

const struct caller *
bounds_caller(const struct config *config, const char *name)
{
	size_t i;

	for (i = 0; i < config->ncallers; i++)
		if (strcmp(config->callers[i].name, name) == 0)
			return &config->callers[i];
	return NULL;
}

/* The VO is the first component of an FQAN; no VO can be named "*". */
static int
is_vo_of(const char *vo, const char *fqan)
{
	size_t len = strlen(vo);

	if (strcmp(vo, "*") == 0)
		return 1;
	return len > 0 && strncmp(fqan + 1, vo, len) == 0 &&
	    (fqan[len + 1] == '\0' || fqan[len + 1] == '/');
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
		if (pil_says_yes(caller->without_vo))
			return PIL_OK;
		pil_detail(detail, "the proxy has no VOMS attributes, and "
		    "[caller %s] does not say without_vo = yes", caller->name);
		return PIL_CALLER_VO_BOUNDS;
	}
	for (i = 0; i < who->fqan_count; i++)
		if (caller->vos == NULL || !pil_word_in(caller->vos,
		    who->fqan[i], is_vo_of)) {
			pil_detail(detail, "[caller %s] does not list the VO "
			    "of %s", caller->name, who->fqan[i]);
			return PIL_CALLER_VO_BOUNDS;
		}
	if (caller->fqans != NULL &&
	    !pil_word_in(caller->fqans, who->fqan[0], pil_fqan_below)) {
		pil_detail(detail, "[caller %s] does not list %s",
		    caller->name, who->fqan[0]);
		return PIL_CALLER_VO_BOUNDS;
	}
	return PIL_OK;
}
