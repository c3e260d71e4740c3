"""From the facts of an attempt's end to its outcome, its reason, and whose fault it was."""

import pytest

from pilotage.errors import refuse
from pilotage.reasons import Reason
from pilotage.states import Outcome
from pilotage_pilot.dialogue import Exit, Failure
from pilotage_pilot.lease import Result, Usage
from pilotage_pilot.outcomes import Cause, Ending, Verdict, judge, judge_error, judge_outputs, judge_stop
from pilotage_pilot.switch import Ended, Refused, Started, Status

STARTED = Started(run_id="r", account="demo01", uid=20001, gid=20001, dn="/O=Toy Grid/CN=alice")


def status(*, ended: Ended | None = None, refused: Refused | None = None, started: bool = True) -> Status:
    told = Status()
    told.started = STARTED if started and not refused else None
    told.ended = ended
    told.refused = refused
    return told


def ended(code: int = 0, signal: int = 0, **more: object) -> Ended:
    return Ended(run_id="r", account="demo01", uid=20001, exit_code=code, signal=signal, wall_seconds=2.0, **more)  # type: ignore[arg-type]  # fields of Ended


def left(code: int = 0, signal: int = 0) -> Exit:
    return Exit(code, signal, 9.0, 9.0, 9.0, 9)


def ending(told: Status, **facts: object) -> Ending:
    base: dict[str, object] = {"front_code": 0, "spoke": True, "exit": None, "failure": None, "done": False}
    return Ending(status=told, **{**base, **facts})  # type: ignore[arg-type]  # fields of Ending


def refusal(code: int, reason: Reason, *, retry: bool = False) -> Refused:
    return Refused(code=code, number=reason.value, reason=reason.name, retry=retry, message="why")


def test_success_needs_wrapper_and_helper_to_agree() -> None:
    verdict = judge(ending(status(ended=ended()), exit=left(), done=True))
    assert verdict.result.outcome is Outcome.OK
    assert (verdict.result.account, verdict.result.uid) == ("demo01", 20001)
    assert not verdict.blames_node


def test_usage_is_what_the_helper_measured_not_what_the_owner_says() -> None:
    assert judge(ending(status(ended=ended()), exit=left(), done=True)).result.usage == Usage(2.0, 0.0, 0.0, 0)


def test_a_wrapper_that_claims_success_while_it_was_killed_is_not_believed() -> None:
    verdict = judge(ending(status(ended=ended(-1, 9)), exit=left(), done=True))
    assert (verdict.result.outcome, verdict.result.reason) == (Outcome.PAYLOAD, "WRAPPER_PROTOCOL")


def test_a_payload_that_fails_is_its_owners_business() -> None:
    verdict = judge(ending(status(ended=ended(3)), front_code=3, exit=left(3), done=True))
    assert (verdict.result.outcome, verdict.result.exit_code, verdict.blames_node) == (Outcome.PAYLOAD, 3, False)
    assert verdict.result.reason == "PAYLOAD_FAILED"


@pytest.mark.parametrize("exit_", [None, left(-1, 9), left(1)], ids=["the wrapper", "the payload", "a child"])
def test_a_payload_that_the_kernel_killed_for_its_memory_met_a_limit(exit_: Exit | None) -> None:
    told = status(ended=ended(-1, 9, reason="LIMIT_MEMORY", number=903))
    verdict = judge(ending(told, exit=exit_, spoke=exit_ is not None))
    assert (verdict.result.outcome, verdict.result.reason) == (Outcome.LIMIT, "LIMIT_MEMORY")
    assert not verdict.blames_node


def test_a_payload_that_survived_the_loss_of_a_process_succeeded() -> None:
    told = status(ended=ended(reason="LIMIT_MEMORY", number=903))
    assert judge(ending(told, exit=left(), done=True)).result.outcome is Outcome.OK


def test_a_payload_that_is_killed_by_a_signal_has_it_recorded() -> None:
    result = judge(ending(status(ended=ended(139)), exit=left(-1, 11), done=True)).result
    assert (result.outcome, result.exit_code, result.signal) == (Outcome.PAYLOAD, -1, 11)


@pytest.mark.parametrize(
    ("code", "reason", "outcome", "blames_node"),
    [
        (203, Reason.NO_MAPPING, Outcome.IDENTITY, False),
        (203, Reason.OWNER_BANNED, Outcome.IDENTITY, False),
        (203, Reason.CALLER_VO_BOUNDS, Outcome.IDENTITY, False),
        (203, Reason.CHAIN_UNKNOWN_CA, Outcome.IDENTITY, False),
        (203, Reason.PROXY_EXPIRED, Outcome.CREDENTIAL, False),
        (203, Reason.CERTIFICATE_REVOKED, Outcome.CREDENTIAL, False),
        (203, Reason.VOMS_EXPIRED, Outcome.CREDENTIAL, False),
        (203, Reason.CRL_EXPIRED, Outcome.INFRASTRUCTURE, True),
        (203, Reason.POOL_EXHAUSTED, Outcome.INFRASTRUCTURE, True),
        (202, Reason.HELPER_CONFIG_INVALID, Outcome.INFRASTRUCTURE, True),
        (202, Reason.SWITCH_FAILED, Outcome.INFRASTRUCTURE, True),
        (201, Reason.PROXY_FILE_UNUSABLE, Outcome.INFRASTRUCTURE, True),
        (201, Reason.COMMAND_UNUSABLE, Outcome.INFRASTRUCTURE, True),
    ],
)
def test_a_refusal_of_the_helper_has_its_own_outcome(
    code: int, reason: Reason, outcome: Outcome, *, blames_node: bool
) -> None:
    verdict = judge(ending(status(refused=refusal(code, reason)), front_code=code, spoke=False))
    assert (verdict.result.outcome, verdict.result.reason) == (outcome, reason.name)
    assert verdict.blames_node is blames_node
    assert verdict.result.message == "why"


def test_a_refusal_in_unknown_words_blames_the_node() -> None:
    odd = Refused(code=203, number=598, reason="NEWER_THAN_US", retry=False, message="why")
    verdict = judge(ending(status(refused=odd), front_code=203, spoke=False))
    assert (verdict.result.outcome, verdict.blames_node) == (Outcome.INFRASTRUCTURE, True)
    assert "NEWER_THAN_US" in verdict.result.message


@pytest.mark.parametrize("code", [1, 126, 201, 203, 139])
def test_exit_codes_alone_are_no_decision_of_the_helper(code: int) -> None:
    verdict = judge(ending(status(started=False), front_code=code, spoke=False))
    assert (verdict.result.outcome, verdict.blames_node) == (Outcome.INFRASTRUCTURE, True)


def test_a_helper_whose_words_cannot_be_read_is_the_nodes_fault() -> None:
    fault = refuse(Reason.HELPER_SYSTEM, "garbage")
    verdict = judge(ending(status(ended=ended()), exit=left(), done=True, helper_fault=fault))
    assert (verdict.result.outcome, verdict.blames_node) == (Outcome.INFRASTRUCTURE, True)


def test_a_payload_whose_end_the_helper_did_not_see_is_run_again() -> None:
    verdict = judge(ending(status(), exit=left(), done=True))
    assert (verdict.result.outcome, verdict.result.reason) == (Outcome.INFRASTRUCTURE, "HELPER_SYSTEM")


@pytest.mark.parametrize(
    ("cause", "outcome", "reason"),
    [
        (Cause.KILLED, Outcome.KILLED, "CANCELLED_BY_OWNER"),
        (Cause.WALL_TIME, Outcome.LIMIT, "LIMIT_WALL_TIME"),
        (Cause.DRAINING, Outcome.INFRASTRUCTURE, "PILOT_DRAINING"),
        (Cause.LOST, Outcome.LOST, "LEASE_ENDED"),
    ],
)
def test_what_the_pilot_ended_is_judged_by_its_cause(cause: Cause, outcome: Outcome, reason: str) -> None:
    for facts in ({"exit": left(-1, 15), "done": True}, {"exit": None}):
        verdict = judge(ending(status(ended=ended(143)), cause=cause, **facts))
        assert (verdict.result.outcome, verdict.result.reason, verdict.blames_node) == (outcome, reason, False)
    assert judge_stop(cause).result.outcome is outcome


@pytest.mark.parametrize(
    "reason", ["SANDBOX_UNSAFE_PATH", "COMMAND_NOT_FOUND", "ENVIRONMENT_REFUSED", "OUTPUT_MISSING"]
)
def test_a_failure_that_the_wrapper_names_fails_the_payload(reason: str) -> None:
    failure = Failure(reason, "said so")
    exit_ = left() if reason == "OUTPUT_MISSING" else None
    result = judge(ending(status(ended=ended(120)), front_code=120, exit=exit_, failure=failure)).result
    assert (result.outcome, result.reason, result.message) == (Outcome.PAYLOAD, reason, "said so")


@pytest.mark.parametrize("reason", ["NO_MAPPING", "HELPER_SYSTEM", "CREDENTIAL_EXPIRED", "LIMIT_WALL_TIME", "OK", ""])
def test_an_owner_cannot_claim_a_reason_that_is_not_the_wrappers(reason: str) -> None:
    verdict = judge(ending(status(ended=ended(120)), failure=Failure(reason, "")))
    assert (verdict.result.outcome, verdict.result.reason) == (Outcome.PAYLOAD, "WRAPPER_PROTOCOL")
    assert not verdict.blames_node


@pytest.mark.parametrize(
    "facts",
    [
        {"failure": Failure("INTERNAL", "")},
        {"fault": refuse(Reason.WRAPPER_PROTOCOL, "noise")},
        {},
        {"exit": left()},
    ],
)
def test_nothing_that_an_owner_says_counts_against_the_node(facts: dict[str, object]) -> None:
    verdict = judge(ending(status(ended=ended(-1, 9)), **facts))
    assert (verdict.result.outcome, verdict.blames_node) == (Outcome.PAYLOAD, False)


@pytest.mark.parametrize("reason", ["INPUT_FAILED", "OUTPUT_FAILED"])
def test_a_full_disk_that_the_wrapper_met_is_tried_elsewhere_and_not_counted(reason: str) -> None:
    verdict = judge(ending(status(ended=ended(120)), failure=Failure(reason, "No space left on device")))
    assert (verdict.result.outcome, verdict.blames_node) == (Outcome.INFRASTRUCTURE, False)


def test_a_wrapper_that_never_spoke_counts_against_the_node() -> None:
    verdict = judge(ending(status(ended=ended(2)), spoke=False, fault=refuse(Reason.WRAPPER_PROTOCOL, "")))
    assert (verdict.result.outcome, verdict.blames_node) == (Outcome.INFRASTRUCTURE, True)


def test_what_the_helper_could_not_remove_is_told() -> None:
    told = status(ended=ended(reason="CLEANUP_INCOMPLETE", left_processes=2, left_files=1))
    result = judge(ending(told, exit=left(), done=True)).result
    assert result.outcome is Outcome.OK
    assert "2 processes and 1 files" in result.message


@pytest.mark.parametrize(
    ("reason", "outcome", "blames_node"),
    [
        (Reason.CREDENTIAL_EXPIRED, Outcome.CREDENTIAL, False),
        (Reason.RETRIEVAL_KEY_WRONG, Outcome.CREDENTIAL, False),
        (Reason.CERTIFICATE_REVOKED, Outcome.CREDENTIAL, False),
        (Reason.TOKEN_FOREIGN, Outcome.INFRASTRUCTURE, True),
        (Reason.TARGET_REFUSED, Outcome.INFRASTRUCTURE, True),
        (Reason.UNAVAILABLE, Outcome.INFRASTRUCTURE, False),
        (Reason.WORKSPACE_UNUSABLE, Outcome.INFRASTRUCTURE, True),
        (Reason.UNAUTHENTICATED, Outcome.INFRASTRUCTURE, True),
        (Reason.SANDBOX_NOT_FOUND, Outcome.PAYLOAD, False),
        (Reason.LEASE_EXPIRED, Outcome.LOST, False),
        (Reason.LEASE_NOT_FOUND, Outcome.LOST, False),
        (Reason.LEASE_ENDED, Outcome.LOST, False),
    ],
)
def test_a_failed_preparation_has_its_own_outcome(reason: Reason, outcome: Outcome, *, blames_node: bool) -> None:
    verdict = judge_error(refuse(reason))
    assert (verdict.result.outcome, verdict.result.reason) == (outcome, reason.name)
    assert verdict.blames_node is blames_node


@pytest.mark.parametrize(
    ("reason", "outcome", "told"),
    [
        (Reason.SANDBOX_UNSAFE_LINK, Outcome.PAYLOAD, "SANDBOX_UNSAFE_LINK"),
        (Reason.UNAVAILABLE, Outcome.INFRASTRUCTURE, "OUTPUT_FAILED"),
        (Reason.LEASE_EXPIRED, Outcome.LOST, "LEASE_EXPIRED"),
    ],
)
def test_success_without_stored_outputs_is_none(reason: Reason, outcome: Outcome, told: str) -> None:
    result = judge_outputs(refuse(reason), Verdict(Result(Outcome.OK))).result
    assert (result.outcome, result.reason) == (outcome, told)


def test_a_failed_payload_stays_one_when_its_outputs_cannot_be_stored() -> None:
    failed = Verdict(Result(Outcome.PAYLOAD, exit_code=3, reason="PAYLOAD_FAILED", message="Exit code 3."))
    result = judge_outputs(refuse(Reason.SANDBOX_TOO_LARGE), failed).result
    assert (result.outcome, result.reason, result.exit_code) == (Outcome.PAYLOAD, "PAYLOAD_FAILED", 3)
    assert "SANDBOX_TOO_LARGE" in result.message
