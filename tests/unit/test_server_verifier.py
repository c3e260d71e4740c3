"""The server's verifier: what it remembers is told at once, on the event loop, and never when it is not so any more."""

import asyncio
import datetime
import io
from pathlib import Path

import msgspec
import pytest

from pilotage.errors import VerifyError
from pilotage.reasons import Reason
from pilotage_helper import Identity
from pilotage_server import logs
from pilotage_server.verifier import Verifier
from support import acs
from support import vectors as v
from support.remembering import settle


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = v.NOW

    def __call__(self) -> datetime.datetime:
        return self.now


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("grid")


@pytest.fixture(scope="module")
def grid(folder: Path) -> v.Authority:
    grid = v.grid_of(folder)
    acs.server(grid, folder)
    settle(folder)
    return grid


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def verifier(grid: v.Authority, folder: Path, clock: Clock) -> Verifier:
    return Verifier(grid.ca_dir, folder / "vomsdir", clock)


def ask(verifier: Verifier, chain: list[bytes], *, require_proxy: bool = False) -> Identity | Reason:
    try:
        return asyncio.run(verifier.chain(chain, require_proxy=require_proxy))
    except VerifyError as error:
        return error.reason


def threads(verifier: Verifier) -> int:
    return len(verifier._threads._threads)


def test_a_chain_that_is_remembered_needs_no_thread(grid: v.Authority, verifier: Verifier) -> None:
    chain = v.proxy(grid.user()).der
    verifier.chain_now(chain)
    first = ask(verifier, chain)
    assert isinstance(first, Identity)
    assert threads(verifier) == 0
    assert verifier.chain_now(chain) is first
    assert isinstance(ask(verifier, v.proxy(grid.user()).der), Identity)
    assert threads(verifier) == 1
    assert verifier.remembered[0].hits == 2


def test_who_has_to_be_a_proxy_is_not_taken_for_one_that_was_remembered(grid: v.Authority, verifier: Verifier) -> None:
    bare = grid.user().der
    for _ in range(2):
        assert isinstance(ask(verifier, bare), Identity)
        assert ask(verifier, bare, require_proxy=True) is Reason.NOT_A_PROXY
    assert verifier.remembered[1].kept == 0


def test_a_clock_that_is_set_back_or_forth_changes_the_answer_at_once(
    grid: v.Authority, verifier: Verifier, clock: Clock
) -> None:
    chain = v.proxy(grid.user(), start=v.NOW - v.HOUR, end=v.NOW + v.HOUR).der
    skew = datetime.timedelta(seconds=300)
    second = datetime.timedelta(seconds=1)
    steps: list[tuple[datetime.datetime, Reason | None]] = [
        (v.NOW, None),
        (v.NOW + v.HOUR + skew, Reason.PROXY_EXPIRED),
        (v.NOW + v.HOUR + skew - second, None),
        (v.NOW - v.HOUR - skew, None),
        (v.NOW - v.HOUR - skew - second, Reason.CERTIFICATE_NOT_YET_VALID),
        (v.NOW, None),
    ]
    for clock.now, refusal in steps:
        answer = ask(verifier, chain)
        assert answer is refusal if refusal else isinstance(answer, Identity)
    assert verifier.remembered[0].kept == 1
    assert verifier.remembered[0].hits == 3


def test_what_is_left_out_is_told_once_for_remembered_chains_too(
    grid: v.Authority, verifier: Verifier, folder: Path
) -> None:
    alice = grid.user()
    server = acs.Server(grid.user("voms.example.org"), grid.entity.certificate.subject, folder, vo="other")
    chain = acs.proxy(alice, acs.value(acs.Ac(server, alice.certificate, ("/other",)))).der
    out = io.StringIO()
    logs.configure("json", out=out)
    told = [ask(verifier, chain) for _ in range(3)]
    assert [isinstance(who, Identity) and "other" in who.note for who in told] == [True] * 3
    assert verifier.remembered[0].hits == 2
    verifier.close()
    events = [msgspec.json.decode(line) for line in out.getvalue().splitlines()]
    assert [event["event"] for event in events].count("attributes left out") == 1
    assert [(event["of"], event["hits"]) for event in events if event["event"] == "chains remembered"] == [
        ("any", 2),
        ("proxies", 0),
    ]
