"""Who is remembered when there is no more room, and whose session is good although nobody remembers it."""

import asyncio
import datetime
import os
import tracemalloc
from pathlib import Path

import msgspec
import pytest

from pilotage.errors import PilotageError
from pilotage.reasons import Reason
from pilotage_server.auth import presence as module
from pilotage_server.auth.presence import Presence
from pilotage_server.auth.trust_watch import TrustWatch
from pilotage_server.clock import utc_now
from pilotage_server.principal import Principal, Proof
from pilotage_server.verifier import Verifier

HOUR = datetime.timedelta(hours=1)
LONG_SINCE = datetime.timedelta(minutes=30)
ROBOT, ALICE = "/O=Grid/CN=Robot", "/O=Grid/CN=Alice"
EEC = bytes(1000)


class World:
    """A server's memory of sessions; nobody's chain is genuine, which tells nothing of a revocation."""

    def __init__(self, folder: Path, room: int) -> None:
        self.ca_dir = folder / "certificates"
        self.ca_dir.mkdir()
        self.now = utc_now() + LONG_SINCE
        self.verifier = Verifier(self.ca_dir, None, lambda: self.now)
        self.presence = Presence(self.verifier, TrustWatch([self.ca_dir]), lambda: self.now, room)
        asyncio.run(self.presence.begin())

    def log_in(self, dn: str, number: int, *, leaf_bytes: int = 900) -> Principal:
        """Return who has a session from now on."""
        key = number.to_bytes(32, "big")
        principal = Principal(dn, "demo", ("/demo",), False, key, Proof.SESSION, self.now + HOUR)
        self.presence.note(principal, (key + bytes(leaf_bytes - 32), dn.encode() + EEC))
        return principal

    def change(self) -> None:
        """Have a file of the authorities changed, and seen to be."""
        (self.ca_dir / "0a1b2c3d.r0").write_text(str(os.urandom(4)))
        asyncio.run(self.presence.look_again())

    def forgotten(self, *callers: Principal) -> list[Principal]:
        """Return who has to log in again."""
        return [caller for caller in callers if refusal(self.presence, caller) is Reason.SESSION_INVALID]


def refusal(presence: Presence, caller: Principal) -> Reason | None:
    try:
        presence.check(caller)
    except PilotageError as error:
        return error.reason
    return None


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path, 100_000)


def test_one_with_many_keys_pushes_out_nobody_but_itself(world: World) -> None:
    alice = [world.log_in(ALICE, number) for number in range(3)]
    robot = [world.log_in(ROBOT, number) for number in range(500)]
    world.change()
    assert world.forgotten(*alice) == []
    left = len(robot) - len(world.forgotten(*robot))
    assert 30 < left < 70
    # Its newest are here, the ones opened longest ago are not.
    assert world.forgotten(*robot) == robot[:-left]


def test_two_with_many_keys_share_what_there_is(world: World) -> None:
    robot = [world.log_in(ROBOT, number) for number in range(200)]
    alice = [world.log_in(ALICE, number) for number in range(200)]
    world.change()
    counts = [len(who) - len(world.forgotten(*who)) for who in (robot, alice)]
    assert abs(counts[0] - counts[1]) <= 1
    assert min(counts) > 15


def test_long_chains_take_the_place_of_their_own_dn(world: World) -> None:
    alice = [world.log_in(ALICE, number) for number in range(5)]
    robot = [world.log_in(ROBOT, number, leaf_bytes=60_000) for number in range(20)]
    world.change()
    assert world.forgotten(*alice) == []
    assert world.forgotten(*robot) == robot[:-1]


def test_all_keys_of_a_robot_are_remembered_while_there_is_room(tmp_path: Path) -> None:
    world = World(tmp_path, module.ROOM)
    robot = [world.log_in(ROBOT, number) for number in range(20_000)]
    assert world.forgotten(*robot) == []
    assert len(world.presence) == len(robot)


def test_what_was_noted_and_forgotten_takes_no_room(world: World) -> None:
    for number in range(500):
        world.log_in(ROBOT if number % 2 else ALICE, number % 7)
    assert len(world.presence) == 14
    assert world.presence.bytes > 0
    world.now += 2 * HOUR
    asyncio.run(world.presence.look_again())
    assert (len(world.presence), world.presence.bytes) == (0, 0)


def test_a_session_takes_no_more_memory_than_is_counted(tmp_path: Path) -> None:
    world = World(tmp_path, module.ROOM)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for person in range(20):
            for number in range(200):
                world.log_in(f"{ROBOT} {person}", number)
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert 0.7 * world.presence.bytes < taken < world.presence.bytes


def test_who_is_not_known_goes_on_while_no_file_has_changed(world: World) -> None:
    stranger = stranger_since(world, world.now)
    assert refusal(world.presence, stranger) is None
    asyncio.run(world.presence.look_again())
    assert refusal(world.presence, stranger) is None


@pytest.mark.parametrize(
    ("opened", "expected"),
    [(-60, Reason.SESSION_INVALID), (0, Reason.SESSION_INVALID), (59, Reason.SESSION_INVALID), (62, None)],
)
def test_who_is_not_known_logs_in_again_after_a_change_from_before_the_start(
    tmp_path: Path, opened: int, expected: Reason | None
) -> None:
    """The last change is that of the directory itself, when the world was made: now, by the files' clock."""
    world = World(tmp_path, 100_000)
    changed = datetime.datetime.fromtimestamp(world.ca_dir.stat().st_ctime, datetime.UTC)
    stranger = stranger_since(world, changed + datetime.timedelta(seconds=opened))
    assert refusal(world.presence, stranger) is expected


def test_the_time_of_a_session_is_cut_to_seconds_and_the_edge_is_refused(world: World) -> None:
    edge = datetime.datetime.fromtimestamp(world.ca_dir.stat().st_ctime_ns / 10**9, datetime.UTC) + module.MARGIN
    assert refusal(world.presence, stranger_since(world, edge.replace(microsecond=0))) is Reason.SESSION_INVALID


def test_a_session_of_less_than_an_hour_counts_as_opened_an_hour_before_its_end(world: World) -> None:
    """Its token does not say otherwise here, and nobody loses more than one login by it."""
    world.change()
    short = msgspec.structs.replace(stranger_since(world, world.now), expire_time=world.now + HOUR / 2)
    assert refusal(world.presence, short) is Reason.SESSION_INVALID


def test_nobody_is_known_to_be_good_before_the_files_were_looked_at(tmp_path: Path) -> None:
    verifier = Verifier(tmp_path, None, utc_now)
    presence = Presence(verifier, TrustWatch([tmp_path]), utc_now)
    caller = Principal(ALICE, "", (), False, bytes(32), Proof.SESSION, utc_now() + HOUR)
    assert refusal(presence, caller) is Reason.SESSION_INVALID
    presence.note(caller, (EEC,))
    assert refusal(presence, caller) is None


def test_files_that_cannot_be_looked_at_count_as_changed(world: World) -> None:
    stranger, known = stranger_since(world, world.now), world.log_in(ALICE, 1)
    world.ca_dir.rename(world.ca_dir.with_name("elsewhere"))
    asyncio.run(world.presence.look_again())
    assert refusal(world.presence, stranger) is Reason.SESSION_INVALID
    assert refusal(world.presence, known) is None


def test_a_service_with_a_certificate_needs_no_session(world: World) -> None:
    world.change()
    service = msgspec.structs.replace(stranger_since(world, world.now), proof=Proof.MUTUAL_TLS)
    assert refusal(world.presence, service) is None


def stranger_since(world: World, opened: datetime.datetime) -> Principal:
    """Return one with a session of an hour of which this server knows nothing."""
    return Principal(ALICE, "demo", ("/demo",), False, b"\xff" * 32, Proof.SESSION, opened + HOUR)


class TestTrustWatch:
    """Every change of what is trusted is seen."""

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        (elsewhere / "list").write_text("one")
        folder = tmp_path / "vomsdir"
        (folder / "demo").mkdir(parents=True)
        (folder / "demo" / "host.lsc").write_text("one")
        (folder / "hash.r0").symlink_to(elsewhere / "list")
        (folder / "nowhere").symlink_to("nothing")
        return folder

    @pytest.mark.parametrize("how", ["write", "deep", "linked", "add", "remove", "same size and time", "relink"])
    def test_a_change_is_seen(self, folder: Path, how: str) -> None:
        watch = TrustWatch([folder])
        before = watch.look()
        assert watch.look() == before
        deep, link = folder / "demo" / "host.lsc", folder / "hash.r0"
        match how:
            case "write":
                (folder / "new.pem").write_text("x")
            case "deep":
                deep.write_text("two!")
            case "linked":
                (link.parent.parent / "elsewhere" / "list").write_text("another")
            case "add":
                (folder / "demo" / "more.lsc").touch()
            case "remove":
                deep.unlink()
            case "same size and time":
                facts = deep.stat()
                deep.write_text("two")
                os.utime(deep, ns=(facts.st_atime_ns, facts.st_mtime_ns))
            case "relink":
                link.unlink()
                link.symlink_to("nothing")
        after = watch.look()
        assert after != before
        assert after.newest >= before.newest

    def test_a_file_that_was_copied_with_its_old_time_is_new(self, folder: Path) -> None:
        os.utime(folder / "demo" / "host.lsc", (0, 0))
        assert utc_now() - TrustWatch([folder]).look().newest < datetime.timedelta(seconds=30)

    def test_a_directory_that_is_not_there_is_told(self, folder: Path) -> None:
        with pytest.raises(FileNotFoundError):
            TrustWatch([folder / "none"]).look()
