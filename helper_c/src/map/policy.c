/*
 * The policy of [map].
 */
#include <string.h>

#include "map/policy.h"

/* The next word of a step, cut off in place; NULL: no more. */
static char *
next_word(char **rest)
{
	char *word = *rest + strspn(*rest, " \t"), *end;

	if (*word == '\0')
		return NULL;
	end = word + strcspn(word, " \t");
	*rest = *end == '\0' ? end : end + 1;
	*end = '\0';
	return word;
}

static const char *
take_name(struct pil_step *step, const char *word)
{
	static const struct {
		const char	*name;
		enum pil_step_by by;
		unsigned	 want;
	} names[] = {
		{ "fqan", PIL_BY_FQAN, PIL_WANT_ACCOUNT | PIL_WANT_POOL },
		{ "fqan-account", PIL_BY_FQAN, PIL_WANT_ACCOUNT },
		{ "fqan-pool", PIL_BY_FQAN, PIL_WANT_POOL },
		{ "dn", PIL_BY_DN, PIL_WANT_ACCOUNT | PIL_WANT_POOL },
		{ "dn-account", PIL_BY_DN, PIL_WANT_ACCOUNT },
		{ "dn-pool", PIL_BY_DN, PIL_WANT_POOL },
	};
	size_t i;

	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strcmp(names[i].name, word) == 0) {
			step->by = names[i].by;
			step->want = names[i].want;
			return NULL;
		}
	return "a step of the policy begins with none of fqan, fqan-account, "
	    "fqan-pool, dn, dn-account, dn-pool";
}

static const char *
take_file(struct pil_step *step, const char *word)
{
	if (step->from != PIL_FROM_DEFAULT)
		return "a step of the policy says from twice";
	if (word == NULL)
		return "the policy says from without a file";
	if (strcmp(word, "grid_mapfile") == 0)
		step->from = PIL_FROM_GRID;
	else if (strcmp(word, "voms_mapfile") == 0)
		step->from = PIL_FROM_VOMS;
	else if (*word == '/') {
		step->from = PIL_FROM_PATH;
		step->file = word;
	} else
		return "the policy says from something that is neither "
		    "grid_mapfile, voms_mapfile nor an absolute path";
	return NULL;
}

static const char *
take_groups(struct pil_step *step, const char *word)
{
	static const char *const names[] = { "account", "fqan", "both" };
	size_t i;

	for (i = 0; word != NULL && i < 3; i++)
		if (strcmp(names[i], word) == 0) {
			step->groups = (enum pil_step_groups)i;
			return NULL;
		}
	return "the policy says groups without account, fqan or both";
}

static const char *
take_step(struct pil_step *step, char *text)
{
	const char *wrong, *word = next_word(&text);
	int groups = 0;

	memset(step, 0, sizeof(*step));
	if (word == NULL)
		return "the policy has an empty step";
	wrong = take_name(step, word);
	while (wrong == NULL && (word = next_word(&text)) != NULL)
		if (strcmp(word, "from") == 0)
			wrong = take_file(step, next_word(&text));
		else if (strcmp(word, "groups") == 0)
			wrong = groups++ ? "a step of the policy says groups "
			    "twice" : take_groups(step, next_word(&text));
		else if (strcmp(word, "require-primary") == 0)
			wrong = step->require_primary++ ? "a step of the "
			    "policy says require-primary twice" : NULL;
		else
			wrong = "a step of the policy has an unknown word; "
			    "known are from, groups and require-primary";
	if (wrong == NULL && step->require_primary &&
	    step->groups == PIL_GROUPS_ACCOUNT)
		wrong = "require-primary needs groups fqan or groups both";
	return wrong;
}

const char *
pil_policy_parse(struct pil_policy *policy, char *text)
{
	const char *wrong;
	char *end;

	policy->n = 0;
	do {
		if ((end = strchr(text, ',')) != NULL)
			*end++ = '\0';
		wrong = policy->n == PIL_STEPS_MAX ?
		    "the policy has more than 8 steps" :
		    take_step(&policy->step[policy->n++], text);
		text = end;
	} while (wrong == NULL && text != NULL);
	if (wrong != NULL)
		policy->n = 0;
	return wrong;
}
