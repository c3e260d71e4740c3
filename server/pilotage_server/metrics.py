"""What this process counts for Prometheus. The collectors are of the process; `pilotage_server.exposition` shows them.

No label takes a value that a caller can choose: no DN, no job, no address. A `reason` is a code of `pilotage.reasons`,
the same as in reply, log and audit, or empty where nothing was refused.
"""

import contextlib
import functools
from collections.abc import Iterator

import prometheus_client
from prometheus_client import Counter, Histogram

from pilotage.errors import PilotageError
from pilotage.reasons import Reason

# The time at which a counter was made says nothing that the process's start does not.
prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0)
"""Seconds; the longest calls wait for work."""
OK, REFUSED = "ok", "refused"

RPC_CALLS = Counter(
    "pilotage_rpc_calls_total",
    "Calls that ended, by method and how: ok, refused (for the reason), cancelled by the caller, aborted.",
    ("service", "method", "outcome", "reason"),
    registry=None,
)
RPC_SECONDS = Histogram(
    "pilotage_rpc_seconds",
    "How long calls took, in the server; long polls and streams as long as they were open.",
    ("service", "method"),
    buckets=BUCKETS,
    registry=None,
)
LOGINS = Counter("pilotage_logins_total", "Logins, by outcome.", ("outcome", "reason"), registry=None)
ACTS = Counter(
    "pilotage_acts_total",
    "Acts on credentials and refusals of them, in the words of the audit (proxy issued, renewal refused, banned, ...).",
    ("act", "reason"),
    registry=None,
)
RENEWALS_FAILED = Counter(
    "pilotage_renewals_failed_total",
    "Proxies of running payloads that were not renewed: refused by the server, or of no use to the pilot.",
    ("told_by", "reason"),
    registry=None,
)
STRIKES = Counter(
    "pilotage_strikes_total", "Used, foreign, expired or altered credential tokens.", ("reason",), registry=None
)
JOB_MOVES = Counter(
    "pilotage_job_moves_total", "Moves of jobs, by the state they went to and why.", ("to", "reason"), registry=None
)
ATTEMPTS_ENDED = Counter(
    "pilotage_attempts_ended_total", "Attempts that ended, by outcome and why.", ("outcome", "reason"), registry=None
)
BACKGROUND_FAILURES = Counter(
    "pilotage_background_failures_total",
    "What the server does by itself and could not do, to try it again later.",
    ("work", "reason"),
    registry=None,
)
ALL = (
    *(RPC_CALLS, RPC_SECONDS, LOGINS, ACTS, RENEWALS_FAILED, STRIKES),
    *(JOB_MOVES, ATTEMPTS_ENDED, BACKGROUND_FAILURES),
)


def call(method: str, outcome: str, seconds: float) -> None:
    """Count a call by its full name; the outcome is a reason's name or another word, and becomes a label."""
    calls, durations = _of_call(method, outcome)
    calls.inc()
    durations.observe(seconds)


# Methods and outcomes are few, and looking a child up by its labels costs more than counting.
@functools.cache
def _of_call(method: str, outcome: str) -> tuple[Counter, Histogram]:
    service, _, name = method.strip("/").partition("/")
    how = (REFUSED, outcome) if outcome in Reason.__members__ else (outcome.lower(), "")
    return RPC_CALLS.labels(service, name, *how), RPC_SECONDS.labels(service, name)


def act(name: str, reason: str) -> None:
    """Count an act on credentials, in the words of the audit."""
    _of_act(name, reason).inc()


@functools.cache
def _of_act(name: str, reason: str) -> Counter:
    return ACTS.labels(name, reason)


def background_failure(work: str, error: Exception) -> None:
    """Count work of the server's own that failed."""
    reason = error.reason if isinstance(error, PilotageError) else Reason.INTERNAL
    BACKGROUND_FAILURES.labels(work, reason.name).inc()


@contextlib.contextmanager
def outcomes(counter: Counter) -> Iterator[None]:
    """Count how the block ends, with labels `outcome` and `reason`; a fault of ours is INTERNAL, as in the reply."""
    try:
        yield
    except Exception as error:
        reason = error.reason if isinstance(error, PilotageError) else Reason.INTERNAL
        counter.labels(REFUSED, reason.name).inc()
        raise
    counter.labels(OK, "").inc()
