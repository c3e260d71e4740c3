"""The life of a job, as data.

Server, database check, tests and documentation read this one table. The names are PanDA's; the
numbers are those of `pilotage.v1.JobState` and `pilotage.v1.Outcome`.
"""

import enum


class JobState(enum.IntEnum):
    """Where a job is in its life."""

    PENDING = 1
    """Waits for a dependency or an upload."""
    DEFINED = 2
    """Complete, not yet accepted by brokerage."""
    ACTIVATED = 3
    """May be dispatched."""
    HELD = 4
    """May not be dispatched, for a stated reason."""
    SENT = 5
    """Leased to a pilot that has not reported yet."""
    STARTING = 6
    """The pilot prepares it."""
    RUNNING = 7
    """The payload runs under its owner's account."""
    HOLDING = 8
    """The payload is over, its outputs are being stored."""
    FINISHED = 9
    """Success. Final."""
    FAILED = 10
    """Out of attempts, or an error that is not tried again. Final."""
    CANCELLED = 11
    """Ended by its owner. Final."""
    CLOSED = 12
    """Ended by the system before it ran. Final."""

    @property
    def label(self) -> str:
        """Return the lower-case name that people and metrics see."""
        return self.name.lower()


class Outcome(enum.IntEnum):
    """How one attempt ended."""

    OK = 1
    PAYLOAD = 2
    INFRASTRUCTURE = 3
    CREDENTIAL = 4
    IDENTITY = 5
    LIMIT = 6
    LOST = 7
    KILLED = 8


MOVES: dict[JobState, frozenset[JobState]] = {
    JobState.PENDING: frozenset({JobState.DEFINED, JobState.CANCELLED}),
    JobState.DEFINED: frozenset({JobState.ACTIVATED, JobState.HELD, JobState.CANCELLED, JobState.CLOSED}),
    JobState.ACTIVATED: frozenset({JobState.SENT, JobState.HELD, JobState.CANCELLED, JobState.CLOSED}),
    JobState.HELD: frozenset({JobState.ACTIVATED, JobState.CANCELLED, JobState.CLOSED}),
    JobState.SENT: frozenset(
        {JobState.STARTING, JobState.ACTIVATED, JobState.HELD, JobState.FAILED, JobState.CANCELLED}
    ),
    JobState.STARTING: frozenset(
        {
            JobState.RUNNING,
            JobState.HOLDING,
            JobState.ACTIVATED,
            JobState.HELD,
            JobState.FAILED,
            JobState.CANCELLED,
        }
    ),
    JobState.RUNNING: frozenset(
        {
            JobState.HOLDING,
            JobState.FINISHED,
            JobState.ACTIVATED,
            JobState.HELD,
            JobState.FAILED,
            JobState.CANCELLED,
        }
    ),
    JobState.HOLDING: frozenset(
        {
            JobState.FINISHED,
            JobState.ACTIVATED,
            JobState.HELD,
            JobState.FAILED,
            JobState.CANCELLED,
        }
    ),
    JobState.FINISHED: frozenset(),
    JobState.FAILED: frozenset(),
    JobState.CANCELLED: frozenset(),
    JobState.CLOSED: frozenset(),
}

FINAL: frozenset[JobState] = frozenset(state for state, moves in MOVES.items() if not moves)
LEASED: frozenset[JobState] = frozenset({JobState.SENT, JobState.STARTING, JobState.RUNNING, JobState.HOLDING})

RETRIED: frozenset[Outcome] = frozenset({Outcome.INFRASTRUCTURE, Outcome.LOST})
"""Outcomes after which the job is offered again while it has attempts left."""


def may_move(source: JobState, target: JobState) -> bool:
    """Return whether a job may go from one state to another."""
    return target in MOVES[source]
