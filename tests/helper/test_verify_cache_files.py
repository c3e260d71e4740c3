"""A change to any file or directory that a verification looked at is seen by the very next question."""

import os
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pilotage.reasons import Reason
from pilotage_helper import ChainCache, Identity, VerifyOptions
from support import acs
from support import vectors as v
from support.remembering import fresh, remembered, settle

Change = Callable[[Path], object]


class Place:
    """A copy of the trusted files, and a chain that was remembered with it."""

    def __init__(self, folder: Path, chain: list[bytes]) -> None:
        self.folder = folder
        self.options = VerifyOptions(folder / "certificates", folder / "vomsdir")
        self.cache = ChainCache(self.options)
        self.chain = chain

    def remember(self) -> None:
        assert isinstance(self.cache.verify(self.chain), Identity)
        assert self.cache.find(self.chain) == fresh(self.chain, self.options)

    def agree(self) -> Identity | Reason:
        """Ask thrice, for what the first question may have left."""
        for _ in range(3):
            wanted = fresh(self.chain, self.options)
            found = self.cache.find(self.chain)
            assert found is None or found == wanted
            assert remembered(self.cache, self.chain) == wanted
        return wanted


def _swap(path: Path) -> None:
    """Put a link to the same file in its place."""
    path.rename(path.with_name("moved"))
    path.symlink_to("moved")


def _rewrite(path: Path, text: bytes) -> None:
    """Write other bytes of the same length into the same file, and give it its old time."""
    before = path.stat()
    assert len(text) == before.st_size
    with path.open("r+b") as file:
        file.write(text)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = path.stat()
    assert (after.st_ino, after.st_size, after.st_mtime_ns) == (before.st_ino, before.st_size, before.st_mtime_ns)


def _renamed_over(path: Path) -> None:
    new = path.with_name("new")
    shutil.copy2(path, new)
    new.rename(path)


def _again(path: Path) -> None:
    text = path.read_bytes()
    path.unlink()
    path.write_bytes(text)


def _lost(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere")


def _directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


# What may happen to a file. The answer may stay the same, and must be that of a verification.
TO_A_FILE: dict[str, Change] = {
    "touched": lambda path: path.touch(),
    "given its own time again": lambda path: os.utime(path, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns)),
    "longer": lambda path: path.open("ab").write(b"\n# more\n"),
    "emptied": lambda path: path.write_bytes(b""),
    "spoiled in place": lambda path: _rewrite(path, path.read_bytes().swapcase()),
    "removed": lambda path: path.unlink(),
    "removed and written again": _again,
    "renamed over": _renamed_over,
    "a link": _swap,
    "a link to nowhere": _lost,
    "a directory": _directory,
    "a pipe": _pipe,
    "somebody else's to write": lambda path: path.chmod(0o666),
    "nobody's to read": lambda path: path.chmod(0),
    "linked twice": lambda path: os.link(path, path.with_name("twice")),
}
FILES = ("{hash}.0", "{hash}.r0", "{hash}.signing_policy", "{hash}.namespaces", "demo/voms.example.org.lsc")


def _revoke(grid: v.Authority, alice: v.Entity, suffix: str) -> Change:
    def change(folder: Path) -> None:
        there = v.Authority(folder / "certificates", grid.entity, [alice.certificate.serial_number])
        kept = there.file(".r0").read_bytes()
        there.write_crl()
        if suffix != ".r0":
            there.file(".r0").rename(there.file(suffix))
            there.file(".r0").write_bytes(kept)

    return change


def _denied(grid: v.Authority) -> Change:
    return lambda folder: v.Authority(folder / "certificates", grid.entity).write_namespaces(
        'SELF DENY Subject "/O=Test Grid/.*"'
    )


def _below(path: str, change: Change) -> Change:
    return lambda folder: change(folder / path)


def _whole(part: str, make: Callable[[Path, Path], object]) -> Change:
    """Move a directory away and put something in its place."""

    def change(folder: Path) -> None:
        path, away = folder / part, folder / "away"
        path.rename(away)
        make(path, away)

    return change


def _other_trust(path: Path, _: Path) -> None:
    """Trust another authority, by a link to a directory that was there before."""
    other = path.with_name("other")
    path.symlink_to(other)


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> v.Authority:
    return v.grid_of(tmp_path_factory.mktemp("grid"))


@pytest.fixture(scope="module")
def alice(grid: v.Authority) -> v.Entity:
    return grid.user()


@pytest.fixture(scope="module")
def chain(grid: v.Authority, alice: v.Entity) -> list[bytes]:
    server = acs.server(grid, grid.ca_dir.parent)
    return acs.proxy(alice, acs.value(acs.Ac(server, alice.certificate))).der


@pytest.fixture(scope="module")
def changes(grid: v.Authority, alice: v.Entity) -> dict[str, tuple[Change, Reason | None]]:
    """What may happen to the trusted files, and the refusal where one is certain."""
    found: dict[str, tuple[Change, Reason | None]] = {}
    for name in FILES:
        path = ("vomsdir/" if "/" in name else "certificates/") + name.format(hash=grid.hash)
        for what, change in TO_A_FILE.items():
            found[f"{name} {what}"] = _below(path, change), None
    found["revoked"] = _revoke(grid, alice, ".r0"), Reason.CERTIFICATE_REVOKED
    found["revoked by one more list"] = _revoke(grid, alice, ".r1"), Reason.CERTIFICATE_REVOKED
    found["one more list that is broken"] = (
        lambda folder: (folder / f"certificates/{grid.hash}.r1").write_bytes(b"-----BEGIN X509 CRL-----\n"),
        None,
    )
    found["one more authority that is broken"] = (
        lambda folder: (folder / f"certificates/{grid.hash}.1").write_bytes(b"-----BEGIN CERTIFICATE-----\n"),
        Reason.CA_DIRECTORY_UNUSABLE,
    )
    found["namespaces that deny"] = _denied(grid), Reason.NAMESPACES_VIOLATION
    found["namespaces that were lost"] = (
        lambda folder: (folder / f"certificates/{grid.hash}.namespaces").symlink_to("nowhere"),
        Reason.CA_DIRECTORY_UNUSABLE,
    )
    for part in ("certificates", "vomsdir", "vomsdir/demo"):
        found[f"{part} gone"] = _whole(part, lambda path, away: None), None
        found[f"{part} empty"] = _whole(part, lambda path, away: path.mkdir()), None
        found[f"{part} a link to itself elsewhere"] = _whole(part, lambda path, away: path.symlink_to(away)), None
        found[f"{part} a copy"] = _whole(part, lambda path, away: shutil.copytree(away, path)), None
        found[f"{part} a file"] = _whole(part, lambda path, away: path.touch()), None
        found[f"{part} somebody else's to write"] = _below(part, lambda path: path.chmod(0o777)), None
    found["certificates another"] = _whole("certificates", _other_trust), Reason.CHAIN_UNKNOWN_CA
    return found


@pytest.fixture(scope="module")
def places(
    grid: v.Authority,
    chain: list[bytes],
    changes: dict[str, tuple[Change, Reason | None]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[dict[str, Place]]:
    """A copy for each change, all made before the one wait; with namespaces where something is to happen to them."""
    base = tmp_path_factory.mktemp("places")
    found = {}
    for number, what in enumerate(changes):
        folder = base / str(number)
        shutil.copytree(grid.ca_dir, folder / "certificates")
        shutil.copytree(grid.ca_dir.parent / "vomsdir", folder / "vomsdir")
        other = folder / "other"
        other.mkdir()
        (folder / "certificates" / "unrelated").touch()
        if what.startswith("{hash}.namespaces"):
            v.Authority(folder / "certificates", grid.entity).write_namespaces('SELF PERMIT Subject "/O=Test Grid/.*"')
        found[what] = Place(folder, chain)
    settle(base)
    for place in found.values():
        place.remember()
    yield found
    for path in base.rglob("*"):
        if not stat.S_ISLNK(path.lstat().st_mode) and path.is_dir():
            path.chmod(0o755)


def test_whatever_happens_to_a_file_the_answer_is_that_of_a_verification(
    changes: dict[str, tuple[Change, Reason | None]], places: dict[str, Place]
) -> None:
    answers = {}
    for what, (change, refusal) in changes.items():
        place = places[what]
        assert place.cache.find(chain=place.chain) is not None, what
        change(place.folder)
        answers[what] = place.agree()
        assert refusal is None or answers[what] is refusal, what
        assert place.cache.state.kept == 1 or isinstance(answers[what], Identity), what
    # Most of this refuses and some does not: both are of use here.
    refused = [answer for answer in answers.values() if isinstance(answer, Reason)]
    assert len(refused) >= 40
    assert len(answers) - len(refused) >= 20
    assert len(set(refused)) >= 8
