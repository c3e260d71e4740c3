"""Hundreds of owners at once, some of their helpers killed: no lease is lost, and no account has two owners (E13)."""

import contextlib
import os
import pwd
import random
import resource
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.crowd import crowd
from support.helper_rig import ANALYSIS, HelperRig
from support.lease_rig import Answer, Question, leases

pytestmark = pytest.mark.root
ACCOUNTS, VISITS = 400, 500
RUN_ACCOUNTS, OWNERS, STARTS = 50, 60, 100
LATE = b"gave no answer within 5 s"


@pytest.fixture(scope="module")
def names(rig: HelperRig) -> Iterator[list[str]]:
    """The accounts of the pool, which the map file names."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(8192, limits[1]), limits[1]))
    pool = f"pgc{os.getpid()}-"
    with crowd(ACCOUNTS, rig.prefix / "home") as made, rig.mapped(f'"{ANALYSIS}" .{pool}\n'):
        yield made
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    rig.release_all()


def fill(rig: HelperRig, names: list[str]) -> None:
    """Make a gridmapdir of free accounts."""
    for path in rig.gridmapdir.iterdir():
        path.unlink()
    for name in names:
        (rig.gridmapdir / name).touch(mode=0o644)


def visit(rig: HelperRig, kill: random.Random | None = None) -> dict[str, Answer | None]:
    """Let all owners come at once; None for those whose mapper was killed."""
    questions = {f"/O=Grid/CN=owner {n}": Question(rig.mapper, f"/O=Grid/CN=owner {n}") for n in range(VISITS)}
    victims = kill.sample(list(questions.values()), VISITS // 2) if kill else []
    for question in questions.values():
        question.send()
        if kill and kill.random() < 0.4 and victims:
            victims.pop().process.kill()
    for question in victims:
        question.process.kill()
    return {dn: question.answer() for dn, question in questions.items()}


def judge(rig: HelperRig, answers: dict[str, Answer | None], before: dict[str, Answer | None]) -> None:
    """The accounts went to as many owners, each with one lease; what somebody had is still theirs."""
    good = {dn: answer for dn, answer in answers.items() if answer and answer.reason == ""}
    assert len(good) == len({answer.account for answer in good.values()}) == ACCOUNTS
    assert {answer.reason for answer in answers.values() if answer} == {"", "POOL_EXHAUSTED"}
    assert leases(rig) == {answer.lease: answer.account for answer in good.values()}
    for dn, answer in before.items():
        if answer and answer.reason == "":
            assert good[dn] == answer


def test_five_hundred_first_visits_share_four_hundred_accounts(rig: HelperRig, names: list[str]) -> None:
    fill(rig, names)
    answers = visit(rig)
    assert None not in answers.values()
    judge(rig, answers, {})
    judge(rig, visit(rig), answers)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_killed_mappers_lose_nothing_and_double_nothing(rig: HelperRig, names: list[str], seed: int) -> None:
    fill(rig, names)
    # Whose account's file is gone is an orphan, and is repaired.
    for n in range(10):
        (rig.gridmapdir / f"%2f%4f%3d%47rid%2f%43%4e%3downer%20{n}:{names[0].rstrip('1')}").touch()
    before = visit(rig, random.Random(seed))
    assert None in before.values()
    assert len(leases(rig)) <= ACCOUNTS + 10
    judge(rig, visit(rig), before)


@pytest.fixture(scope="module")
def proxies(rig: HelperRig, names: list[str]) -> Iterator[list[Path]]:
    """One proxy for each owner, and homes for the accounts that they can get."""
    for name in names[:RUN_ACCOUNTS]:
        entry = pwd.getpwnam(name)
        home = Path(entry.pw_dir)
        home.mkdir(mode=0o700)
        os.chown(home, entry.pw_uid, entry.pw_gid)
    owners, uids = list(rig.owners), set(rig.uids)
    rig.uids |= {pwd.getpwnam(name).pw_uid for name in names[:RUN_ACCOUNTS]}
    rig.owners += [rig.grid.user(f"owner {n}", key="ec") for n in range(len(owners) + 1, OWNERS + 1)]
    pool = f"pgc{os.getpid()}-"
    with rig.configured(change=lambda text: text.replace("accounts = ", f"accounts = {pool}* ")):
        yield [rig.proxy(n) for n in range(OWNERS)]
    rig.owners, rig.uids = owners, uids


def start_all(rig: HelperRig, proxies: list[Path]) -> list["subprocess.Popen[bytes]"]:
    """Begin a hundred runs; some owners come twice."""
    return [
        rig.start(["run", "--proxy", str(proxies[n % OWNERS]), "--", "/usr/bin/sleep", "0.1"]) for n in range(STARTS)
    ]


def check_alone(rig: HelperRig, before: int) -> None:
    """By the log, START to END: never two owners at once on one account."""
    living: dict[object, dict[object, object]] = {}
    for line in rig.since(before):
        runs = living.setdefault(line.get("account"), {})
        if line["event"] == "START":
            runs[line["run_id"]] = line["dn"]
            assert len(set(runs.values())) == 1
        elif line["event"] in {"END", "CLEANUP"}:
            runs.pop(line["run_id"], None)


def settle(rig: HelperRig, proxies: list[Path]) -> None:
    """Each owner alone: as many as there are accounts run, each on an account of their own."""
    done = [rig.run("/usr/bin/id", "-u", proxy=proxy) for proxy in proxies]
    good = [outcome.out for outcome in done if outcome.code == 0]
    assert len(good) == len(set(good)) == RUN_ACCOUNTS
    assert {outcome.reason for outcome in done} == {"", "POOL_EXHAUSTED"}
    assert len(leases(rig)) == RUN_ACCOUNTS
    assert (rig.processes(), rig.left()) == ([], [])


def test_a_hundred_starts_on_fifty_accounts_never_meet(rig: HelperRig, names: list[str], proxies: list[Path]) -> None:
    fill(rig, names[:RUN_ACCOUNTS])
    before = len(rig.audit())
    begun = time.monotonic()
    said = [run.communicate(timeout=240)[1] for run in start_all(rig, proxies)]
    late = [n for n, err in enumerate(said) if LATE in err]
    # One core cannot verify a hundred proxies at once in the time of one; who was late comes again, alone.
    assert not late or time.monotonic() - begun > 5
    again = [rig.run("/usr/bin/sleep", "0.1", proxy=proxies[n % OWNERS]).err.encode() for n in late]
    refused = [err for err in (*said, *again) if err and LATE not in err]
    check_alone(rig, before)
    assert len({line["dn"] for line in rig.since(before) if line["event"] == "START"}) == RUN_ACCOUNTS
    assert all(b"POOL_EXHAUSTED" in err for err in refused)
    settle(rig, proxies)


def test_killed_monitors_leave_leases_that_their_owners_find_again(
    rig: HelperRig, names: list[str], proxies: list[Path]
) -> None:
    fill(rig, names[:RUN_ACCOUNTS])
    before, chance = len(rig.audit()), random.Random(4)
    runs = start_all(rig, proxies)
    killed = 0
    for run in chance.sample(runs, STARTS // 2):
        with contextlib.suppress(OSError):
            children = Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()
            for monitor in children:
                os.kill(int(monitor), signal.SIGKILL)
                killed += 1
    for run in runs:
        run.communicate(timeout=240)
    assert killed
    assert subprocess.run([rig.program, "cleanup"], check=False).returncode == 0
    check_alone(rig, before)
    settle(rig, proxies)
