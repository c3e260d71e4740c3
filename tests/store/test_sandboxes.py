"""Sandboxes: whole, safe and the owner's own, or nothing at all."""

import asyncio
import contextlib
import hashlib
import io
import sqlite3
import subprocess
import tarfile
from collections.abc import AsyncIterator, Awaitable, Iterator
from pathlib import Path
from typing import TypedDict

import msgspec
import pytest

from pilotage.errors import PilotageError
from pilotage.reasons import Reason
from pilotage.states import JobState
from pilotage_server.jobs import JobLimits
from pilotage_server.principal import Principal
from pilotage_server.store import sandboxes
from support.desks import ALICE, BOB, OK, OTHER_PILOT, PILOT, Desks, principal, spec

pytestmark = pytest.mark.asyncio


async def refused(awaitable: Awaitable[object]) -> Reason:
    """Return the reason with which something was refused."""
    with pytest.raises(PilotageError) as caught:
        await awaitable
    return caught.value.reason


def archive(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    """Return a tar.gz of these members."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz", format=tarfile.PAX_FORMAT) as tar:
        for member, data in members:
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data) if data else None)
    return out.getvalue()


def file(name: str, data: bytes = b"data") -> tuple[tarfile.TarInfo, bytes]:
    return tarfile.TarInfo(name), data


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(name)
    member.type = kind
    member.linkname = target
    return member, b""


class Announced(TypedDict, total=False):
    """What a header says."""

    size: int
    sha256: str


GOOD = archive(file("analyse"), file("data/events.csv", b"1,2,3\n" * 100))


async def chunks(data: bytes, size: int = 1000) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


async def upload(
    desks: Desks,
    data: bytes,
    caller: Principal = ALICE,
    lease_id: str = "",
    *,
    sha256: str | None = None,
    size: int | None = None,
) -> str:
    """Upload bytes, announced truly unless something else is said."""
    announced = len(data) if size is None else size
    return await desks.sandboxes.upload(caller, sha256 or digest(data), announced, lease_id, chunks(data))


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


async def download(desks: Desks, sha256: str, caller: Principal = ALICE, lease_id: str = "") -> bytes:
    return b"".join([chunk async for chunk in desks.sandboxes.download(caller, sha256, lease_id)])


def kept(root: Path) -> list[str]:
    """Return the files below the sandboxes' folder."""
    return [path.name for path in (root / "sandboxes").rglob("*") if path.is_file()]


async def test_what_was_uploaded_comes_back(desks: Desks, tmp_path: Path) -> None:
    sha256 = await upload(desks, GOOD)
    assert sha256 == digest(GOOD)
    assert await download(desks, sha256) == GOOD
    assert kept(tmp_path) == [sha256]
    assert await upload(desks, GOOD) == sha256


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (archive(file("../evil")), Reason.SANDBOX_UNSAFE_PATH),
        (archive(file("a/../../evil")), Reason.SANDBOX_UNSAFE_PATH),
        (archive(file("/etc/cron.d/evil")), Reason.SANDBOX_UNSAFE_PATH),
        (archive(link("out", "/etc/passwd")), Reason.SANDBOX_UNSAFE_LINK),
        (archive(link("out", "../../etc/passwd")), Reason.SANDBOX_UNSAFE_LINK),
        (archive(link("out", "/etc/shadow", tarfile.LNKTYPE)), Reason.SANDBOX_UNSAFE_PATH),
        (archive(link("dir", "sub"), file("dir/evil")), Reason.SANDBOX_UNSAFE_PATH),
        (archive(link("null", "", tarfile.CHRTYPE)), Reason.SANDBOX_UNSAFE_MEMBER),
        (archive(link("pipe", "", tarfile.FIFOTYPE)), Reason.SANDBOX_UNSAFE_MEMBER),
        (b"this is no archive" * 10, Reason.SANDBOX_MALFORMED),
        (GOOD[:-20], Reason.SANDBOX_TRUNCATED),
    ],
)
async def test_an_archive_that_could_hurt_is_refused_and_not_kept(
    desks: Desks, tmp_path: Path, data: bytes, reason: Reason
) -> None:
    assert await refused(upload(desks, data)) is reason
    assert kept(tmp_path) == []
    assert await refused(download(desks, digest(data))) is Reason.SANDBOX_NOT_FOUND


@pytest.mark.parametrize(
    ("announced", "reason"),
    [
        ({"size": len(GOOD) + 1}, Reason.SANDBOX_TRUNCATED),
        ({"size": len(GOOD) - 1}, Reason.SANDBOX_TOO_LARGE),
        ({"size": 2**63}, Reason.SANDBOX_TOO_LARGE),
        ({"sha256": "a" * 64}, Reason.SANDBOX_DIGEST_MISMATCH),
        ({"sha256": "../../../etc/passwd"}, Reason.INVALID_ARGUMENT),
        ({"sha256": digest(GOOD).upper()}, Reason.INVALID_ARGUMENT),
    ],
)
async def test_what_is_not_as_announced_leaves_nothing(
    desks: Desks, tmp_path: Path, announced: Announced, reason: Reason
) -> None:
    assert await refused(upload(desks, GOOD, **announced)) is reason
    assert kept(tmp_path) == []


async def test_a_stream_that_is_cut_off_leaves_nothing(desks: Desks, tmp_path: Path) -> None:
    stuck = asyncio.Event()

    async def half() -> AsyncIterator[bytes]:
        yield GOOD[:100]
        stuck.set()
        await asyncio.Event().wait()

    uploading = asyncio.ensure_future(desks.sandboxes.upload(ALICE, digest(GOOD), len(GOOD), "", half()))
    await stuck.wait()
    assert len(kept(tmp_path)) == 1
    uploading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await uploading
    assert kept(tmp_path) == []


async def test_who_leaves_while_the_right_to_a_sandbox_is_written_leaves_both_or_neither(
    desks: Desks, tmp_path: Path
) -> None:
    """Another program holds the database, so the write has begun and is not over when the caller goes."""
    with contextlib.closing(sqlite3.connect(tmp_path / "jobs.sqlite", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        uploading = asyncio.ensure_future(upload(desks, GOOD))
        while not (tmp_path / "sandboxes" / digest(GOOD)[:2] / digest(GOOD)).exists():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        # The file has its name; give the write the time to reach the database, too.
        await asyncio.sleep(0.1)
        uploading.cancel()
        await asyncio.sleep(0.1)
        other.execute("ROLLBACK")
    with pytest.raises(asyncio.CancelledError):
        await uploading
    await desks.database.write(lambda _: None)
    if await desks.database.read(lambda c: sandboxes.visible(c, [ALICE.dn], digest(GOOD))):
        assert await download(desks, digest(GOOD)) == GOOD
    else:
        assert kept(tmp_path) == []


async def test_what_a_crash_left_is_swept_at_the_next_start(desks: Desks, tmp_path: Path) -> None:
    (tmp_path / "sandboxes" / "incoming" / "half").write_bytes(b"half")
    await desks.close()
    desks.open()
    assert kept(tmp_path) == []


async def test_two_uploads_of_the_same_at_once_are_one_sandbox(desks: Desks, tmp_path: Path) -> None:
    await asyncio.gather(*(upload(desks, GOOD, owner) for owner in (ALICE, BOB, ALICE)))
    assert kept(tmp_path) == [digest(GOOD)]
    for owner in (ALICE, BOB):
        assert await download(desks, digest(GOOD), owner) == GOOD


async def test_knowing_a_digest_does_not_give_the_bytes(desks: Desks) -> None:
    sha256 = await upload(desks, GOOD, ALICE)
    assert await refused(download(desks, sha256, BOB)) is Reason.SANDBOX_NOT_FOUND
    assert await refused(desks.submit(BOB, spec(input_sandbox=sha256))) is Reason.SANDBOX_NOT_FOUND
    assert await desks.submit(ALICE, spec(input_sandbox=sha256))


async def test_a_sandbox_larger_than_allowed_is_refused_before_its_bytes(tmp_path: Path) -> None:
    small = Desks(tmp_path / "small", JobLimits(sandbox_bytes=100))
    try:
        assert await refused(upload(small, GOOD)) is Reason.SANDBOX_TOO_LARGE
    finally:
        await small.close()


async def test_an_archive_that_swells_is_refused(tmp_path: Path) -> None:
    small = Desks(tmp_path / "small", JobLimits(unpacked_bytes=100_000))
    try:
        bomb = archive(file("zeros", bytes(5_000_000)))
        assert len(bomb) < 100_000
        assert await refused(upload(small, bomb)) is Reason.SANDBOX_TOO_LARGE
    finally:
        await small.close()


# pilots


async def leased(desks: Desks, **changes: object) -> tuple[str, str]:
    await desks.submit(ALICE, spec(**changes))
    pilot_id = await desks.register()
    (grant,) = await desks.take(pilot_id)
    return pilot_id, grant.lease_id


async def test_the_holder_of_the_lease_reads_the_input_of_its_job_and_nothing_else(desks: Desks) -> None:
    sha256 = await upload(desks, GOOD)
    other = await upload(desks, archive(file("another")))
    _, lease_id = await leased(desks, input_sandbox=sha256)
    assert await download(desks, sha256, PILOT, lease_id) == GOOD
    assert await refused(download(desks, other, PILOT, lease_id)) is Reason.SANDBOX_NOT_FOUND
    assert await refused(download(desks, sha256, PILOT)) is Reason.SANDBOX_NOT_FOUND
    for stranger in (OTHER_PILOT, principal("Pilot 1", "second"), ALICE):
        assert await refused(download(desks, sha256, stranger, lease_id)) is Reason.LEASE_FOREIGN


async def test_what_the_holder_of_the_lease_uploads_is_the_owners(desks: Desks) -> None:
    pilot_id, lease_id = await leased(desks)
    sha256 = await upload(desks, GOOD, PILOT, lease_id)
    assert await download(desks, sha256, ALICE) == GOOD
    assert await refused(download(desks, sha256, PILOT)) is Reason.SANDBOX_NOT_FOUND
    assert await refused(download(desks, sha256, BOB)) is Reason.SANDBOX_NOT_FOUND
    result = msgspec.structs.replace(OK, output_sandbox=sha256)
    assert await desks.pilots.finish(PILOT, pilot_id, lease_id, result) is JobState.FINISHED


async def test_after_the_end_of_the_lease_the_pilot_gets_and_puts_nothing(desks: Desks) -> None:
    sha256 = await upload(desks, GOOD)
    pilot_id, lease_id = await leased(desks, input_sandbox=sha256)
    await desks.pilots.finish(PILOT, pilot_id, lease_id, OK)
    assert await refused(download(desks, sha256, PILOT, lease_id)) is Reason.LEASE_ENDED
    assert await refused(upload(desks, archive(file("late")), PILOT, lease_id)) is Reason.LEASE_ENDED


async def test_a_lease_that_ends_during_an_upload_leaves_nothing(desks: Desks, tmp_path: Path) -> None:
    pilot_id, lease_id = await leased(desks)

    async def slowly() -> AsyncIterator[bytes]:
        yield GOOD[:100]
        await desks.pilots.finish(PILOT, pilot_id, lease_id, OK)
        yield GOOD[100:]

    late = desks.sandboxes.upload(PILOT, digest(GOOD), len(GOOD), lease_id, slowly())
    assert await refused(late) is Reason.LEASE_ENDED
    assert kept(tmp_path) == []


# disks


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "sandboxes"
    place.mkdir(exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", "size=256k,mode=0700", "tmpfs", str(place)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("this machine does not let us mount a tmpfs")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.root
async def test_a_full_disk_says_so_and_keeps_nothing_of_it(small_disk: Path, tmp_path: Path) -> None:
    desks = Desks(tmp_path)
    try:
        noise = b"".join(hashlib.sha512(str(number).encode()).digest() for number in range(8000))
        large = archive(file("noise", noise))
        assert await refused(upload(desks, large)) is Reason.DISK_FULL
        assert kept(tmp_path) == []
        assert await upload(desks, GOOD)
    finally:
        await desks.close()
