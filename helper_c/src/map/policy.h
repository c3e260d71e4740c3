/*
 * The policy of [map]: in which order an identity is looked up, and where.
 *
 *	policy = step { "," step }
 *	step   = ( "fqan" | "dn" ) [ "-account" | "-pool" ] { option }
 *	option = "from" ( "grid_mapfile" | "voms_mapfile" | path )
 *	       | "groups" ( "account" | "fqan" | "both" )
 *	       | "require-primary"
 */
#ifndef PILOTAGE_MAP_POLICY_H
#define PILOTAGE_MAP_POLICY_H

#include <stddef.h>

#define PIL_STEPS_MAX	8
#define PIL_POLICY	"fqan, dn"	/* where the configuration has none */

enum pil_step_by { PIL_BY_FQAN, PIL_BY_DN };
enum pil_step_file { PIL_FROM_DEFAULT, PIL_FROM_GRID, PIL_FROM_VOMS,
    PIL_FROM_PATH };
enum pil_step_groups { PIL_GROUPS_ACCOUNT, PIL_GROUPS_FQAN, PIL_GROUPS_BOTH };

/* What a line of the map file may name for the step to see it. */
#define PIL_WANT_ACCOUNT	0x01u
#define PIL_WANT_POOL		0x02u

struct pil_step {
	enum pil_step_by by;
	unsigned	 want;		/* PIL_WANT_* */
	enum pil_step_file from;
	const char	*file;		/* of PIL_FROM_PATH */
	enum pil_step_groups groups;
	int		 require_primary; /* the first FQAN has a group */
};

struct pil_policy {
	struct pil_step	 step[PIL_STEPS_MAX];
	size_t		 n;
};

/*
 * Parse in place: text is changed, and paths point into it. NULL, or what is
 * wrong; never both a policy and an error.
 */
const char	*pil_policy_parse(struct pil_policy *, char *text);

#endif
