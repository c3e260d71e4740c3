"""A lease that is recycled while its owner returns, step by step: one account never gets two owners."""

import contextlib
import os
import select
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.helper_rig import HelperRig
from support.injection import numbers
from support.lease_rig import Answer, Question, World, age, ask, leases, world

pytestmark = pytest.mark.root
OLD, NEW = "/O=Grid/CN=the old owner", "/O=Grid/CN=the new owner"


class Stepper:
    """A program that waits before each of its steps."""

    def __init__(self, rig: HelperRig) -> None:
        self._go, self._event = os.pipe(), os.pipe()
        self.program = [str(rig.attack("lockstep")), str(self._go[0]), str(self._event[1])]
        self.fds = (self._go[0], self._event[1])
        self.ended = False
        self._waits = True
        self._text = b""

    def begin(self) -> None:
        """Once it has been started: let go of its ends, and wait for the first step."""
        for fd in self.fds:
            os.close(fd)
        self.pid = int(self._line(60))
        self._waits = self._line(60) != b""

    def _line(self, seconds: float) -> bytes:
        end = time.monotonic() + seconds
        while b"\n" not in self._text and not self.ended:
            if not select.select([self._event[0]], [], [], 0.002)[0]:
                if self._is_blocked() or time.monotonic() > end:
                    return b""
                continue
            got = os.read(self._event[0], 4096)
            self._text += got
            self.ended = not got
        line, _, self._text = self._text.partition(b"\n")
        return line

    def _is_blocked(self) -> bool:
        """Whether it waits for a lock that somebody else holds."""
        with contextlib.suppress(OSError, AttributeError):
            return Path(f"/proc/{self.pid}/syscall").read_text().split()[0] == str(numbers()["flock"])
        return False

    def step(self) -> bool:
        """Let it make one step; False: it is over, or waits for a lock."""
        if self.ended:
            return False
        if self._waits:
            os.write(self._go[1], b".")
        self._waits = self._line(60) != b""
        return self._waits

    def close(self) -> None:
        """Let it run on by itself."""
        for fd in (self._go[1], self._event[0]):
            os.close(fd)


class Race:
    """The old owner O returns, a new one N comes, and R recycles; the pool has one account."""

    def __init__(self, place: World) -> None:
        self.rig = place.rig
        self.steppers = {who: Stepper(place.rig) for who in "ONR"}
        self.taken = dict.fromkeys("ONR", 0)
        self.questions = {}
        for who, dn in (("O", OLD), ("N", NEW)):
            self.questions[who] = Question(
                place.rig.mapper, dn, program=self.steppers[who].program, fds=self.steppers[who].fds
            )
            self.questions[who].send()
        self.recycler = place.start_recycler(self.steppers["R"].program, self.steppers["R"].fds)
        for stepper in self.steppers.values():
            stepper.begin()

    def step(self, who: str) -> bool:
        """Let one of them make a step."""
        self.taken[who] += 1
        return self.steppers[who].step()

    def run(self, who: str) -> None:
        """Let one of them run as far as it comes."""
        while self.step(who):
            pass

    def finish(self) -> tuple[Answer, Answer]:
        """Let all of them end, and judge."""
        while not all(stepper.ended for stepper in self.steppers.values()):
            for who in "ONR":
                self.run(who)
        old, new = (self.questions[who].answer() for who in "ON")
        self.recycler.communicate(timeout=120)
        for stepper in self.steppers.values():
            stepper.close()
        assert self.recycler.returncode == 0
        assert old
        assert new
        # One account: one of the two has it, and the other one has a clear refusal.
        assert sorted([old.reason, new.reason]) == ["", "POOL_EXHAUSTED"]
        winner = old if old.reason == "" else new
        assert leases(self.rig) == {winner.lease: winner.account}
        return old, new


@pytest.fixture(scope="module")
def place(rig: HelperRig) -> Iterator[World]:
    with world(rig) as made:
        yield made


def race(place: World) -> Race:
    """Make the lease that is due, on the only account."""
    rig = place.rig
    rig.release_all()
    for name in rig.pools[1:]:
        (rig.gridmapdir / name).unlink()
    assert ask(rig, OLD).account == rig.pools[0]
    age(rig)
    return Race(place)


def test_wherever_one_of_them_is_stopped_one_account_has_one_owner(place: World) -> None:
    outcomes = set()
    for first, then in (("R", "ON"), ("R", "NO"), ("O", "RN"), ("N", "RO"), ("O", "NR"), ("N", "OR")):
        steps, more = 0, True
        while more:
            one = race(place)
            more = all(one.step(first) for _ in range(steps))
            for who in then:
                one.run(who)
            old, new = one.finish()
            outcomes.add((first, old.reason, new.reason))
            steps += 1
    # The order decided, and each way of ending was met.
    assert {(old, new) for _, old, new in outcomes} == {("", "POOL_EXHAUSTED"), ("POOL_EXHAUSTED", "")}


@settings(max_examples=60, deadline=None)
@given(order=st.lists(st.sampled_from("ONR"), max_size=60))
def test_in_any_order_of_their_steps_one_account_has_one_owner(place: World, order: Sequence[str]) -> None:
    one = race(place)
    for who in order:
        one.step(who)
    one.finish()
