/* Who may come in at all, whatever the policy would map. */
#ifndef PILOTAGE_MAP_GATE_H
#define PILOTAGE_MAP_GATE_H

#include "map/map.h"

/* Bans, allowed users, time slots, commands; the first that refuses tells. */
enum pil_reason	pil_gate(const struct pil_task *);

/* Read all of its files. */
enum pil_reason	pil_gate_check_files(const struct pil_map_config *,
		    char *detail);

#endif
