"""A remembered chain has, at every time, the answer that verifying it at that time gives."""

import base64
import datetime
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pilotage_helper import ChainCache, Identity, VerifyOptions
from support import acs
from support import vectors as v
from support.remembering import ders, fresh, remembered, settle
from vectors.make import make, read

SKEW = 300
DER_TIME = re.compile(rb"\x17\x0d(\d{12})Z|\x18\x0f(\d{14})Z")
BLOCK = re.compile(rb"-----BEGIN [^-]*-----(.*?)-----END", re.DOTALL)


class Case:
    """A chain, what is trusted, and every second at which something may begin or end."""

    def __init__(self, name: str, pem: bytes, options: VerifyOptions) -> None:
        self.name = name
        self.options = options
        self.chain = ders(pem)
        trusted = [path.read_bytes() for path in options.ca_dir.iterdir() if path.suffix in (".0", ".1", ".r0", ".r1")]
        texts = [*self.chain, *(base64.b64decode(text) for pem in trusted for text in BLOCK.findall(pem))]
        found = {seconds for text in texts for seconds in _times(text)}
        self.moments = sorted(
            t + skew + step for t in found for skew in (-SKEW, 0, SKEW) for step in (-1, 0, 1, 2) if t + skew + step > 0
        )


def _times(der: bytes) -> list[int]:
    found = []
    for short, long in DER_TIME.findall(der):
        text = (long or (b"20" if short[:2] < b"50" else b"19") + short).decode()
        moment = datetime.datetime.strptime(text, "%Y%m%d%H%M%S").replace(tzinfo=datetime.UTC)
        found.append(int(moment.timestamp()))
    return found


def moment(seconds: int) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC)


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> list[Case]:
    """Every good vector, and trust that changes with the time: renewed authorities, lists that overlap, short ones."""
    folder = tmp_path_factory.mktemp("remembered")
    make(folder)
    found = [
        Case(row.name, (folder / row.file).read_bytes(), VerifyOptions(place / "certificates", place / "vomsdir"))
        for row in read(folder)
        if not row.reason
        for place in (folder / "trust" / row.trust,)
    ]
    for name, pem, options in _changing(folder / "changing"):
        found.append(Case(name, pem, options))
    settle(folder)
    return found


def _changing(folder: Path) -> list[tuple[str, bytes, VerifyOptions]]:
    """Trust of which a part ends while the chain goes on."""
    made = []
    grid = v.grid_of(folder / "renewed")
    again = v.root(grid.ca_dir, start=v.NOW - v.HOUR, end=v.NOW + 20 * v.HOUR)
    grid.file(".0").rename(grid.file(".1"))
    grid.file(".0").write_bytes(v.pem(again.entity.certificate))
    long = v.proxy(grid.user(), end=v.NOW + 15 * v.DAY)
    made.append(("renewed", long.pem, VerifyOptions(grid.ca_dir)))
    grid = v.grid_of(folder / "lists")
    grid.write_crl(days=0.1)
    grid.file(".r0").rename(grid.file(".r1"))
    grid.write_crl(days=0.2, start=v.NOW - 2 * v.HOUR)
    made.append(("lists", v.proxy(grid.user()).pem, VerifyOptions(grid.ca_dir)))
    made.append(("any lists", v.proxy(grid.user()).pem, VerifyOptions(grid.ca_dir, require_crl=False)))
    grid = v.grid_of(folder / "attributes")
    server = acs.server(grid, folder / "attributes", end=v.NOW + 3 * v.HOUR)
    alice = grid.user()
    first = acs.Ac(server, alice.certificate, end=v.NOW + 2 * v.HOUR)
    second = acs.Ac(server, alice.certificate, start=v.NOW - v.HOUR / 2, end=v.NOW + v.HOUR)
    pem = acs.proxy(alice, acs.value(first, second)).pem
    made.append(("attributes", pem, VerifyOptions(grid.ca_dir, folder / "attributes" / "vomsdir")))
    return made


def agree(case: Case, cache: ChainCache, seconds: int) -> bool:
    """Compare memory with a verification at this time; tell whether it was remembered."""
    wanted = fresh(case.chain, case.options, moment(seconds))
    found = cache.find(case.chain, moment(seconds))
    assert found is None or found == wanted, f"{case.name} at {seconds}"
    return found is not None


def test_what_is_remembered_now_is_true_at_every_time_that_is_written_anywhere(cases: list[Case]) -> None:
    assert len(cases) >= 20
    for case in cases:
        cache = ChainCache(case.options)
        now = int(v.NOW.timestamp())
        assert cache.find(case.chain, v.NOW) is None
        assert isinstance(cache.verify(case.chain, v.NOW), Identity)
        hits = [seconds for seconds in case.moments if agree(case, cache, seconds)]
        # It is remembered for one stretch of seconds around now, which ends at a time that is written somewhere.
        assert hits, case.name
        assert hits == [seconds for seconds in case.moments if min(hits) <= seconds <= max(hits)]
        assert agree(case, cache, now)
        assert not agree(case, cache, min(hits) - 1)
        assert not agree(case, cache, max(hits) + 1)


@settings(
    max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(data=st.data())
def test_two_times_that_share_a_memory_share_an_answer(cases: list[Case], data: st.DataObject) -> None:
    case = data.draw(st.sampled_from(cases), label="case")
    near = st.sampled_from(case.moments)
    low, high = case.moments[0] - 10, case.moments[-1] + 10
    when = near | st.integers(low, high) | st.integers(int(v.NOW.timestamp()), int(v.NOW.timestamp()) + 86400)
    cache = ChainCache(case.options)
    for seconds in data.draw(st.lists(when, min_size=2, max_size=5), label="times"):
        assert remembered(cache, case.chain, moment(seconds)) == fresh(case.chain, case.options, moment(seconds))
