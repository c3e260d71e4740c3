"""What an attempt's end means: from facts to one outcome and one reason.

Three voices are told apart. The helper's status lines are trusted. What the wrapper says is the owner's word: it
can spoil the owner's own job, but never be counted against the node. Exit codes alone decide nothing that
a status line could have said.
"""

import enum

import msgspec

from pilotage.errors import LeaseError, PilotageError, SandboxError
from pilotage.holding import VERIFIER_FAULTS
from pilotage.reasons import Reason
from pilotage.states import Outcome
from pilotage_pilot.dialogue import Exit, Failure
from pilotage_pilot.lease import Result, Usage
from pilotage_pilot.switch import Ended, Refused, Started, Status


class Cause(enum.Enum):
    """Why the pilot itself ended a payload."""

    KILLED = Reason.CANCELLED_BY_OWNER
    WALL_TIME = Reason.LIMIT_WALL_TIME
    DRAINING = Reason.PILOT_DRAINING
    LOST = Reason.LEASE_ENDED
    PREPARING = Reason.INPUT_FAILED
    COLLECTING = Reason.OUTPUT_FAILED
    WRONG_OWNER = Reason.DELEGATION_WRONG_OWNER
    LOG_ONLY = Reason.HELPER_LOG_ONLY


class Ending(msgspec.Struct, frozen=True):
    """The facts when the helper's front is gone."""

    status: Status
    front_code: int
    spoke: bool
    exit: Exit | None
    failure: Failure | None
    done: bool
    fault: PilotageError | None = None
    """The wrapper broke the rules."""
    helper_fault: PilotageError | None = None
    """The helper's status cannot be read."""
    cause: Cause | None = None
    """Set when the pilot ended it before the wrapper was done."""


class Verdict(msgspec.Struct, frozen=True):
    """A result, and whether this node is to blame for it."""

    result: Result
    blames_node: bool = False


CREDENTIAL_REASONS = frozenset(
    {
        Reason.CERTIFICATE_EXPIRED,
        Reason.PROXY_EXPIRED,
        Reason.CERTIFICATE_REVOKED,
        Reason.PROXY_LIMITED,
        Reason.LIFETIME_TOO_LONG,
        Reason.VOMS_EXPIRED,
        Reason.VOMS_LIFETIME,
        Reason.VOMS_AA_REVOKED,
    }
)
"""Refusals that a new credential of the same owner would cure."""

NODE_REASONS = frozenset(
    {
        *VERIFIER_FAULTS,
        Reason.VOMSES_NOT_FOUND,
        Reason.VOMSES_MALFORMED,
        Reason.VOMS_SERVER_UNREACHABLE,
        Reason.VOMS_SERVER_IDENTITY,
        Reason.VOMS_SERVER_FAILED,
        Reason.VOMS_ANSWER_MALFORMED,
        Reason.CALLER_NOT_ALLOWED,
        Reason.MAP_FILE_MALFORMED,
        Reason.MAP_FILE_UNUSABLE,
        Reason.POOL_EXHAUSTED,
        Reason.POOL_UNUSABLE,
        Reason.ACCOUNT_LOOKUP,
        Reason.ACCOUNT_IN_USE,
    }
)
"""Refusals by this node's files or clock, or on its way to a VO's servers: another node may accept the same owner."""

OUR_OWN = frozenset(
    {
        Reason.TOKEN_INVALID,
        Reason.TOKEN_EXPIRED,
        Reason.TOKEN_USED,
        Reason.TOKEN_FOREIGN,
        Reason.CSR_INVALID,
        Reason.KEY_KIND_REFUSED,
        Reason.TARGET_REFUSED,
    }
)
"""Refusals of a credential that say nothing about it: another attempt gets another token and key, or another pilot."""

NODE_ERRORS = frozenset(
    {
        Reason.WORKSPACE_UNUSABLE,
        Reason.HELPER_NOT_INSTALLED,
        Reason.HELPER_SYSTEM,
        Reason.INTERNAL,
        Reason.UNAUTHENTICATED,
        Reason.IDENTITY_FILE_UNUSABLE,
    }
)
"""Errors of this pilot's place or of its own identity."""

WRAPPER_REASONS = frozenset(
    {
        Reason.SANDBOX_TOO_LARGE,
        Reason.SANDBOX_TRUNCATED,
        Reason.SANDBOX_UNSAFE_PATH,
        Reason.SANDBOX_UNSAFE_LINK,
        Reason.SANDBOX_UNSAFE_MEMBER,
        Reason.SANDBOX_MALFORMED,
        Reason.OUTPUT_MISSING,
        Reason.PAYLOAD_FAILED,
        Reason.COMMAND_NOT_FOUND,
        Reason.ENVIRONMENT_REFUSED,
        Reason.INPUT_FAILED,
        Reason.OUTPUT_FAILED,
    }
)
"""Reasons that a wrapper may give."""

ELSEWHERE = frozenset({Reason.INPUT_FAILED, Reason.OUTPUT_FAILED})
"""Those that another node may not have (a full disk). An owner who lies about it spends the job's own attempts."""


def judge(ending: Ending) -> Verdict:
    """Return what an attempt came to that got as far as the helper."""
    verdict = _judge(ending)
    started, ended = ending.status.started, ending.status.ended
    result = msgspec.structs.replace(
        verdict.result,
        account=started.account if started else "",
        uid=started.uid if started else 0,
        usage=_usage(ending.exit, ended),
        message=verdict.result.message + _leftovers(ended),
    )
    return Verdict(result, verdict.blames_node)


def _judge(ending: Ending) -> Verdict:
    status = ending.status
    if status.refused:
        return _refused(status.refused)
    if ending.cause in (Cause.WRONG_OWNER, Cause.LOG_ONLY):
        return Verdict(_ended_by_us(ending.cause, None).result, blames_node=True)
    if ending.helper_fault or not status.started:
        return _without_helper(ending)
    if ending.cause:
        return _ended_by_us(ending.cause, ending.exit)
    if status.ended is None:
        text = f"The helper ended with {ending.front_code} and did not report the end of the payload."
        return _node(Reason.HELPER_SYSTEM, text)
    if status.ended.reason == Reason.FRONT_LOST.name:
        return _node(Reason.FRONT_LOST, "")
    return _payload(ending, status.started, status.ended)


def _payload(ending: Ending, started: Started, ended: Ended) -> Verdict:
    """Judge a payload that ran to its own end."""
    whole = ending.done and ending.exit and not (ending.exit.exit_code or ending.exit.signal)
    if ended.reason == Reason.LIMIT_MEMORY.name and not whole:
        code, number = (ending.exit.exit_code, ending.exit.signal) if ending.exit else (0, ended.signal)
        text = "The payload used more memory than it asked for, or than this node allows; the kernel ended it."
        return Verdict(Result(Outcome.LIMIT, code, number, reason=Reason.LIMIT_MEMORY.name, message=text))
    if ending.exit and (ending.exit.exit_code or ending.exit.signal):
        how = f"signal {ending.exit.signal}" if ending.exit.signal else f"exit code {ending.exit.exit_code}"
        text = f"The payload ended with {how}."
        if ending.failure or ending.fault:
            text += f" Its outputs were not brought back: {_said(ending)}"
        return _owner(Reason.PAYLOAD_FAILED, text, ending.exit)
    if ending.failure:
        named = Reason.__members__.get(ending.failure.reason)
        reason = named if named in WRAPPER_REASONS else Reason.WRAPPER_PROTOCOL
        verdict = _owner(reason, ending.failure.message, ending.exit)
        if reason in ELSEWHERE:
            return Verdict(msgspec.structs.replace(verdict.result, outcome=Outcome.INFRASTRUCTURE))
        return verdict
    if ending.fault or not ending.done or ending.exit is None:
        if not ending.spoke:
            text = f"The wrapper never spoke; the helper saw exit code {ended.exit_code}, signal {ended.signal}."
            return _node(Reason.WRAPPER_PROTOCOL, text)
        reason = ending.fault.reason if ending.fault else Reason.WRAPPER_PROTOCOL
        return _owner(reason, _said(ending), ending.exit)
    if not _agree(ending):
        text = f"The wrapper reports success, the helper saw exit code {ended.exit_code}, signal {ended.signal}."
        return _owner(Reason.WRAPPER_PROTOCOL, text, ending.exit)
    return Verdict(Result(Outcome.OK))


def _agree(ending: Ending) -> bool:
    """Return whether the wrapper's story ends as the helper saw the wrapper end."""
    ended = ending.status.ended
    return bool(ending.exit and ended and ended.signal == 0 and ended.exit_code == ending.exit.process_code)


def _said(ending: Ending) -> str:
    if ending.failure:
        return f"{ending.failure.reason}: {ending.failure.message}"
    return ending.fault.message if ending.fault else "The wrapper ended in the middle."


def _refused(refused: Refused) -> Verdict:
    reason = refused.known
    text = refused.message if reason.name == refused.reason else f"{refused.reason}: {refused.message}"
    if reason in CREDENTIAL_REASONS:
        return Verdict(Result(Outcome.CREDENTIAL, reason=reason.name, message=text))
    if refused.code == 203 and reason not in NODE_REASONS and reason is not Reason.HELPER_SYSTEM:
        return Verdict(Result(Outcome.IDENTITY, reason=reason.name, message=text))
    return _node(reason, text)


def _without_helper(ending: Ending) -> Verdict:
    if ending.helper_fault:
        return _node(ending.helper_fault.reason, ending.helper_fault.message)
    if ending.cause is Cause.PREPARING:
        return _node(Reason.HELPER_SYSTEM, "The helper did not say in time that the payload runs.")
    if ending.cause:
        return _ended_by_us(ending.cause, None)
    reason = Reason.COMMAND_UNUSABLE if ending.front_code == 126 else Reason.HELPER_SYSTEM
    return _node(reason, f"The helper ended with {ending.front_code} and did not say why.")


def _ended_by_us(cause: Cause, exit_: Exit | None) -> Verdict:
    outcome = {
        Cause.KILLED: Outcome.KILLED,
        Cause.LOST: Outcome.LOST,
        Cause.WALL_TIME: Outcome.LIMIT,
        Cause.DRAINING: Outcome.INFRASTRUCTURE,
        Cause.PREPARING: Outcome.INFRASTRUCTURE,
        Cause.COLLECTING: Outcome.PAYLOAD,
        Cause.WRONG_OWNER: Outcome.IDENTITY,
        Cause.LOG_ONLY: Outcome.INFRASTRUCTURE,
    }[cause]
    texts = {
        Cause.PREPARING: "The wrapper did not start the payload in time.",
        Cause.WRONG_OWNER: "The helper ran as another than the job's owner; it was killed before the payload began.",
        Cause.COLLECTING: "The outputs did not arrive in time.",
    }
    code, number = (exit_.exit_code, exit_.signal) if exit_ else (0, 0)
    text = texts.get(cause, cause.value.row.text)
    return Verdict(Result(outcome, exit_code=code, signal=number, reason=cause.value.name, message=text))


def _owner(reason: Reason, text: str, exit_: Exit | None) -> Verdict:
    code, number = (exit_.exit_code, exit_.signal) if exit_ else (0, 0)
    return Verdict(Result(Outcome.PAYLOAD, exit_code=code, signal=number, reason=reason.name, message=text[:1000]))


def _node(reason: Reason, text: str) -> Verdict:
    message = (text or reason.row.text)[:1000]
    return Verdict(Result(Outcome.INFRASTRUCTURE, reason=reason.name, message=message), blames_node=True)


def _usage(exit_: Exit | None, ended: Ended | None) -> Usage:
    """Prefer what the helper measured; the wrapper's numbers are for an attempt whose end nobody saw."""
    if ended:
        return Usage(ended.wall_seconds, ended.cpu_user_seconds, ended.cpu_system_seconds, ended.max_rss_bytes)
    return exit_.usage if exit_ else Usage()


def _leftovers(ended: Ended | None) -> str:
    if ended and (ended.left_processes or ended.left_files):
        return f" The helper left {ended.left_processes} processes and {ended.left_files} files behind."
    return ""


def judge_error(error: PilotageError) -> Verdict:
    """Return what an attempt came to that failed before the helper was started, or after the payload had ended."""
    reason, number = error.reason, error.reason.value
    if isinstance(error, LeaseError):
        return Verdict(Result(Outcome.LOST, reason=reason.name, message=error.message))
    if 200 <= number < 400 or (600 <= number < 700 and reason not in OUR_OWN):
        return Verdict(Result(Outcome.CREDENTIAL, reason=reason.name, message=error.message))
    if 800 <= number < 900:
        return Verdict(Result(Outcome.PAYLOAD, reason=reason.name, message=error.message))
    blames_node = reason in OUR_OWN or reason in NODE_ERRORS
    return Verdict(Result(Outcome.INFRASTRUCTURE, reason=reason.name, message=error.message), blames_node)


def judge_proxy(error: PilotageError) -> Verdict:
    """Return what an attempt came to whose proxy this pilot itself refused."""
    if error.reason in NODE_REASONS:
        return _node(error.reason, error.message)
    return Verdict(Result(Outcome.CREDENTIAL, reason=error.reason.name, message=error.message[:1000]))


def judge_stop(cause: Cause) -> Verdict:
    """Return what an attempt came to that was ended before the helper was started."""
    return _ended_by_us(cause, None)


def judge_outputs(error: PilotageError, verdict: Verdict) -> Verdict:
    """Return what an attempt came to whose outputs could not be stored; a failed payload stays one."""
    result = verdict.result
    if isinstance(error, LeaseError):
        outcome, reason = Outcome.LOST, error.reason
    elif result.outcome is not Outcome.OK:
        outcome, reason = result.outcome, Reason[result.reason]
    elif isinstance(error, SandboxError):
        outcome, reason = Outcome.PAYLOAD, error.reason
    else:
        outcome, reason = Outcome.INFRASTRUCTURE, Reason.OUTPUT_FAILED
    message = f"{result.message} The outputs were not stored: {error}".strip()[:1000]
    return Verdict(msgspec.structs.replace(result, outcome=outcome, reason=reason.name, message=message))
