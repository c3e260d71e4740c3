/*
 * Root becomes another. There is no condition here under which it does not.
 */
#include "keep/become.h"
#include "privsep/switch.h"

int
become_verifier(const struct run *run)
{
	return switch_to(&run->verifier, NULL, 0);
}

int
become_account(const struct run *run)
{
	const struct ids account = { run->map.uid, run->map.gid };

	return switch_to(&account, run->map.groups, run->map.ngroups);
}

int
become_reader(const struct run *run)
{
	return switch_effective(&run->pilot);
}

int
become_keeper(const struct run *run)
{
	const struct ids root = { 0, 0 };

	(void)run;
	return switch_effective(&root);
}
