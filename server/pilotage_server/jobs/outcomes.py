"""What becomes of a job when an attempt ends (DESIGN section 7).

    OK               finished
    PAYLOAD, LIMIT   failed: the owner's program did it, and would do it again
    IDENTITY         failed: the node refused the owner; it must be put right by people, not by trying elsewhere
    CREDENTIAL       held with the reason, until there is a credential that serves
    INFRASTRUCTURE,  activated again while attempts remain, else failed with ATTEMPTS_EXHAUSTED
    LOST
    KILLED           cancelled when the owner asked for it, else failed with the pilot's reason

Once the owner asked for the end, nothing is tried again or held: what would be is cancelled.
"""

import msgspec

from pilotage.reasons import Reason
from pilotage.states import RETRIED, JobState, Outcome
from pilotage_server.workload import AttemptResult


class Verdict(msgspec.Struct, frozen=True):
    """The state a job goes to, and why."""

    state: JobState
    reason: str = ""
    message: str = ""


CANCELLED = Verdict(JobState.CANCELLED, Reason.CANCELLED_BY_OWNER.name, Reason.CANCELLED_BY_OWNER.row.text)


def verdict(result: AttemptResult, *, tries: int, max_attempts: int, cancel_requested: bool) -> Verdict:
    """Return what becomes of a job whose attempt, the `tries`-th that counts, ended so."""
    outcome = result.outcome
    if outcome is Outcome.OK:
        return Verdict(JobState.FINISHED)
    again = outcome in RETRIED
    if cancel_requested and (again or outcome in (Outcome.KILLED, Outcome.CREDENTIAL)):
        return CANCELLED
    if again and tries < max_attempts:
        return Verdict(JobState.ACTIVATED, result.reason, result.message)
    if again:
        why = f"Attempt {tries} of {max_attempts} ended with {result.reason}. {result.message}".rstrip()
        return Verdict(JobState.FAILED, Reason.ATTEMPTS_EXHAUSTED.name, why)
    if outcome is Outcome.CREDENTIAL:
        return Verdict(JobState.HELD, result.reason, result.message)
    return Verdict(JobState.FAILED, result.reason, result.message)
