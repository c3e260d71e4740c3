/* The run's place on its account, and its record (helper.md 4.3, step 14). */
#ifndef PILOTAGE_KEEP_SLOT_H
#define PILOTAGE_KEEP_SLOT_H

#include "keep/run.h"

/* Open the directories of records, made if need be. */
int		slot_open(struct run *, char *detail);
/* Open the mapped account's own directory there; and hold the account. */
int		slot_enter(struct run *);
int		slot_lock(struct run *);
/* The owner as a fixed text: the digest of the DN as the verifier writes it. */
void		slot_owner(const struct run *, char hex[65]);
/* Before the owner is mapped: from now on no lease is recycled. */
enum pil_reason	slot_begin(struct run *, char *detail);
/*
 * Take a place on the mapped account: refused while another owner's run holds
 * one. What a run without a living monitor left there is removed first.
 */
enum pil_reason	slot_take(struct run *, char *detail);
/* Write down where the run's processes are, before there are any. */
int		slot_record(struct run *);
/*
 * Hold the account for the end of the run: no other run can begin on it until
 * slot_release(). 1: no other run is on it, 0: one is; -1: not known.
 */
int		slot_hold(struct run *);
/*
 * Give the place up, but leave the record for the account's next run, which
 * then cleans up what we could not.
 */
void		slot_abandon(struct run *);
/* Give the place up and remove the record; also when none was taken. */
void		slot_release(struct run *);

#endif
