"""Check what pilots say before it is stored or shown to an owner."""

import math

import msgspec

from pilotage.errors import refuse
from pilotage.reasons import Reason
from pilotage.states import Outcome
from pilotage_server.jobs.limits import JobLimits
from pilotage_server.jobs.specs import DIGEST, WORD
from pilotage_server.workload import AttemptResult, Offer, Usage

LONGEST_NAME = 255
LONGEST_MESSAGE = 1000
LARGEST_INTEGER = 2**63 - 1
SILENT = (Outcome.OK, Outcome.PAYLOAD, Outcome.KILLED)
"""Outcomes that need no reason of the pilot's."""


def _wrong(message: str) -> Exception:
    return refuse(Reason.INVALID_ARGUMENT, message)


def check_offer(offer: Offer, limits: JobLimits) -> None:
    """Raise INVALID_ARGUMENT unless an offer makes sense."""
    if not 0 < offer.slots <= limits.slots_per_pilot:
        raise _wrong(f"A pilot has 1 to {limits.slots_per_pilot} slots.")
    if offer.cores < 1 or offer.wall_seconds < 1:
        raise _wrong("A slot has at least one core and some time left.")
    if max(offer.memory_bytes, offer.disk_bytes) > LARGEST_INTEGER:
        raise _wrong("A slot's memory or disk is beyond any machine's.")
    if not WORD.fullmatch(offer.site):
        raise _wrong("The site's name is not 1 to 64 letters, digits or '_.:-'.")
    if len(offer.tags) > limits.tags or not all(WORD.fullmatch(tag) for tag in offer.tags):
        raise _wrong(f"There are more than {limits.tags} tags, or one is not 1 to 64 letters, digits or '_.:-'.")
    for text in (offer.worker_node, offer.version):
        if len(text) > LONGEST_NAME or not text.isprintable():
            raise _wrong("A name is too long or holds control characters.")


def check_usage(usage: Usage) -> None:
    """Raise INVALID_ARGUMENT for what no attempt can have used."""
    seconds = (usage.wall_seconds, usage.cpu_user_seconds, usage.cpu_system_seconds)
    if not all(math.isfinite(value) and value >= 0 for value in seconds) or usage.max_rss_bytes > LARGEST_INTEGER:
        raise _wrong("The usage is not made of finite, positive numbers.")


def check_account(account: str) -> None:
    """Raise INVALID_ARGUMENT for what is no name of an account."""
    if len(account) > LONGEST_NAME or not account.isprintable():
        raise _wrong("The account's name is too long or holds control characters.")


def check_reason(reason: str) -> None:
    """Raise INVALID_ARGUMENT for what is no reason code."""
    if reason not in Reason.__members__:
        raise _wrong("The reason is not in the table of reasons.")


def checked_result(result: AttemptResult) -> AttemptResult:
    """Return a result fit to be kept: known reason, no control characters, a message of bounded length."""
    check_usage(result.usage)
    check_account(result.account)
    if len(result.worker_node) > LONGEST_NAME or not result.worker_node.isprintable():
        raise _wrong("The worker node's name is too long or holds control characters.")
    if result.outcome is Outcome.LOST:
        raise _wrong("Only the server can find an attempt lost.")
    if result.output_sandbox and not DIGEST.fullmatch(result.output_sandbox):
        raise _wrong("The output sandbox is not named by a SHA-256 in lower-case hex.")
    reason = result.reason
    if not reason and result.outcome not in SILENT:
        raise _wrong(f"The outcome {result.outcome.name} needs a reason.")
    if reason:
        check_reason(reason)
    if not reason and result.outcome is Outcome.PAYLOAD:
        reason = Reason.PAYLOAD_FAILED.name
    if not reason and result.outcome is Outcome.KILLED:
        reason = Reason.CANCELLED_BY_OWNER.name
    return msgspec.structs.replace(result, reason=reason, message=clean_message(result.message))


def as_told(result: AttemptResult, stop_reason: str) -> AttemptResult:
    """Give an attempt that was killed on the server's word the reason of that word, whatever its pilot thinks of it."""
    if not stop_reason or result.outcome is not Outcome.KILLED:
        return result
    return msgspec.structs.replace(result, reason=stop_reason, message=Reason[stop_reason].row.text)


def clean_message(text: str) -> str:
    """Return a message that cannot play tricks on a terminal."""
    return "".join(letter if letter.isprintable() else " " for letter in text[:LONGEST_MESSAGE])
