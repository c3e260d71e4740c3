"""The one table of reasons, and everything that repeats a part of it."""

import re
from pathlib import Path

import pytest

from pilotage import errors
from pilotage.errors import FAMILIES, HelperError, PilotageError, refuse
from pilotage.reasons import TABLE, Code, Reason
from pilotage.states import FINAL, LEASED, MOVES, JobState, Outcome, may_move
from pilotage.v1 import auth_pb2, credential_pb2, job_pb2
from pilotage.x509.keys import KeyKind

ROOT = Path(__file__).resolve().parents[2]
HEADER = ROOT / "helper_c" / "include" / "pilotage" / "reason.h"
PROTOS = sorted((ROOT / "protos" / "pilotage" / "v1").glob("*.proto"))
FAMILY_PREFIXES = {name.split("_")[0] + "_" for name in Reason.__members__}


def test_every_reason_has_one_row_and_every_row_a_reason() -> None:
    assert set(TABLE) == set(Reason)
    assert len(Reason.__members__) == len({reason.value for reason in Reason})


@pytest.mark.parametrize("reason", list(Reason), ids=lambda reason: reason.name)
def test_a_row_is_complete(reason: Reason) -> None:
    row = reason.row
    assert row.family in FAMILIES
    assert row.exit_code in {1, 2, 3, 4, 5}
    assert row.text.endswith(".")
    assert re.fullmatch(r"[A-Z][A-Z0-9_]*", reason.name)
    assert reason.label == reason.name.lower()
    error = refuse(reason)
    assert type(error) is FAMILIES[row.family]
    assert str(error) == f"{reason.name}: {row.text}"
    assert (error.exit_code, error.retry) == (row.exit_code, row.retry)


def test_every_family_is_used_and_in_the_tree() -> None:
    leaves = {cls for cls in vars(errors).values() if isinstance(cls, type) and issubclass(cls, PilotageError)}
    assert set(FAMILIES.values()) == leaves - {PilotageError, HelperError}
    assert {reason.row.family for reason in Reason} == set(FAMILIES)
    drawn = set(re.findall(r"\w+(?:Error|Denied)\b", str(errors.__doc__)))
    assert drawn == {cls.__name__ for cls in leaves}


def test_what_is_not_found_and_who_is_unknown_have_the_exit_codes_of_the_manual() -> None:
    for reason in Reason:
        row = reason.row
        if row.family == "NotFoundError":
            assert row.exit_code == 3
        if row.code in (Code.UNAUTHENTICATED, Code.PERMISSION_DENIED) and row.family not in (
            "LeaseError",
            "ServiceError",
        ):
            assert row.exit_code == 4
        if row.family == "ServiceError" and row.code is Code.UNAVAILABLE:
            assert row.exit_code == 5


def test_the_helpers_header_repeats_the_table() -> None:
    found = dict(re.findall(r"^\tPIL_([A-Z0-9_]+) = (\d+),?$", HEADER.read_text(), re.MULTILINE))
    assert found.pop("OK") == "0"
    ours = {reason.name: str(reason.value) for reason in Reason if 200 <= reason.value <= 599}
    assert found == ours


@pytest.mark.parametrize("path", PROTOS, ids=lambda path: path.stem)
def test_the_contract_names_reasons_that_exist(path: Path) -> None:
    for block in re.findall(r"Reasons[^:]*:((?:[^.]|\n)*?)\.\n", path.read_text()):
        for name in re.findall(r"\b[A-Z][A-Z_]{4,}\b(?!\*)", block):
            if name.endswith("_"):
                assert name in FAMILY_PREFIXES, f"{path.name}: {name}*"
            else:
                assert name in Reason.__members__, f"{path.name}: {name}"


def names(enum: object, prefix: str) -> dict[str, int]:
    """Return a protobuf enum without its prefix and its zero."""
    items = enum.items()  # type: ignore[attr-defined]  # the stubs' wrapper has no public name
    return {name.removeprefix(prefix): number for name, number in items if number}


def test_states_and_kinds_are_those_of_the_contract() -> None:
    assert names(job_pb2.JobState, "JOB_STATE_") == {state.name: state.value for state in JobState}
    assert names(job_pb2.Outcome, "OUTCOME_") == {outcome.name: outcome.value for outcome in Outcome}
    assert names(credential_pb2.KeyKind, "KEY_KIND_") == {kind.name: kind.value for kind in KeyKind}
    assert set(names(auth_pb2.SignatureAlgorithm, "SIGNATURE_ALGORITHM_")) == {"RSA_PSS_SHA256", "ECDSA_SHA256"}


def test_the_table_of_moves_is_whole() -> None:
    assert set(MOVES) == set(JobState)
    assert {state.label for state in FINAL} == {"finished", "failed", "cancelled", "closed"}
    reached = {JobState.PENDING, JobState.DEFINED}
    for _ in JobState:
        reached |= {target for state in reached for target in MOVES[state]}
    assert reached == set(JobState)
    assert not any(may_move(state, state) for state in JobState)
    assert not any(may_move(state, target) for state in FINAL for target in JobState)
    assert all(may_move(state, JobState.ACTIVATED) for state in LEASED)
