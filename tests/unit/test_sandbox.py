"""Sandboxes: the same files give the same bytes, and no archive hurts the one who unpacks it."""

import contextlib
import gzip
import io
import os
import resource
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilotage.errors import PilotageError, SandboxError
from pilotage.reasons import Reason
from pilotage.sandbox import Limits, check_archive, pack, read_digest, unpack
from pilotage.sandbox.rules import check_name, check_symlink


def member(name: str, **values: object) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    for key, value in values.items():
        setattr(info, key, value)
    return info


def archive(*members: tarfile.TarInfo | tuple[tarfile.TarInfo, bytes], end: bool = True) -> bytes:
    """Make a tar.gz of any members whatever."""
    raw = b""
    for item in members:
        info, data = item if isinstance(item, tuple) else (item, b"")
        if data:
            info.size = len(data)
        raw += info.tobuf(tarfile.PAX_FORMAT) + data + b"\0" * (-len(data) % 512)
    return gzip.compress(raw + (b"\0" * 1024 if end else b""))


def text(name: str, content: bytes = b"x") -> tuple[tarfile.TarInfo, bytes]:
    return member(name), content


def symlink(name: str, target: str) -> tarfile.TarInfo:
    return member(name, type=tarfile.SYMTYPE, linkname=target)


def refusal(raw: bytes, tmp_path: Path, limits: Limits | None = None) -> Reason:
    """Return why an archive is refused; checking and unpacking must agree and write nothing."""
    with pytest.raises(PilotageError) as checked:
        check_archive(io.BytesIO(raw), limits)
    out = tmp_path / "out"
    out.mkdir(exist_ok=True)
    with pytest.raises(PilotageError) as unpacked:
        unpack(io.BytesIO(raw), out, limits)
    assert unpacked.value.reason is checked.value.reason
    assert list(out.iterdir()) == []
    assert "\n" not in checked.value.message
    return checked.value.reason


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    (root / "data" / "empty").mkdir(parents=True)
    (root / "data" / "events.csv").write_text("1,2,3\n" * 1000)
    (root / "run.sh").write_text("#!/bin/sh\n")
    (root / "run.sh").chmod(0o4755)
    (root / "Ünïcode name").write_bytes(b"")
    (root / "data" / "link").symlink_to("../run.sh")
    (root / ("long" * 40)).write_text("long")
    return root


def test_packing_and_unpacking_gives_the_same_tree(tree: Path, tmp_path: Path) -> None:
    file = io.BytesIO()
    packed = pack([tree], tree, file)
    raw = file.getvalue()
    assert read_digest(io.BytesIO(raw)) == (packed.sha256, packed.size_bytes)
    contents = check_archive(io.BytesIO(raw))
    assert contents.members == packed.members == 7
    out = tmp_path / "out"
    out.mkdir()
    unpack(io.BytesIO(raw), out)
    assert (out / "data" / "events.csv").read_text() == "1,2,3\n" * 1000
    assert (out / "data" / "link").readlink() == Path("../run.sh")
    assert (out / "data" / "empty").is_dir()
    assert (out / "run.sh").stat().st_mode & 0o7777 in (0o755, 0o750, 0o700)
    assert (out / "Ünïcode name").read_bytes() == b""


def test_the_same_files_give_the_same_bytes(tree: Path) -> None:
    first, second = io.BytesIO(), io.BytesIO()
    pack([tree / "run.sh", tree / "data"], tree, first)
    os.utime(tree / "run.sh", (1, 1))
    (tree / "data" / "events.csv").chmod(0o600)
    pack([tree / "data", tree / "data" / "events.csv", tree / "run.sh"], tree, second)
    assert first.getvalue() == second.getvalue()


def test_the_standard_tools_read_our_archives(tree: Path) -> None:
    file = io.BytesIO()
    pack([tree], tree, file)
    with tarfile.open(fileobj=io.BytesIO(file.getvalue()), mode="r:gz") as opened:
        assert [m.name for m in opened] == sorted(m.name for m in opened)
        assert {(m.mtime, m.uid, m.gid, m.uname) for m in opened} == {(0, 0, 0, "")}


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda root: os.mkfifo(root / "fifo"), Reason.SANDBOX_UNSAFE_MEMBER),
        (lambda root: (root / "away").symlink_to("/etc/passwd"), Reason.SANDBOX_UNSAFE_LINK),
        (lambda root: (root / "away").symlink_to("../outside"), Reason.SANDBOX_UNSAFE_LINK),
        (lambda root: (root / "new\nline").write_text(""), Reason.SANDBOX_UNSAFE_PATH),
    ],
)
def test_what_could_not_be_unpacked_is_not_packed(spoil: Callable[[Path], object], reason: Reason, tree: Path) -> None:
    spoil(tree)
    with pytest.raises(PilotageError) as caught:
        pack([tree], tree, io.BytesIO())
    assert caught.value.reason is reason


def test_files_outside_the_root_are_not_packed(tree: Path) -> None:
    for path in (tree.parent, tree / ".." / "other", Path("/etc/passwd")):
        with pytest.raises(PilotageError) as caught:
            pack([path], tree, io.BytesIO())
        assert caught.value.reason in (Reason.SANDBOX_UNSAFE_PATH, Reason.SANDBOX_NOT_FOUND)
    with pytest.raises(PilotageError) as caught:
        pack([tree / "no such file"], tree, io.BytesIO())
    assert caught.value.reason is Reason.SANDBOX_NOT_FOUND


@pytest.mark.parametrize(
    "name", ["../x", "a/../../x", "/etc/passwd", "a/..", "..", "a\nb", "\x1b[2J", "n" * 300, "/".join("d" * 70)]
)
def test_a_path_that_leads_out_is_refused(name: str, tmp_path: Path) -> None:
    assert refusal(archive(text("good"), text(name)), tmp_path) is Reason.SANDBOX_UNSAFE_PATH


@pytest.mark.parametrize("target", ["/etc/passwd", "../x", "../../x", "sub/../../x", "sub/..", "", "a\nb", "./../x"])
def test_a_symbolic_link_that_may_lead_out_is_refused(target: str, tmp_path: Path) -> None:
    assert refusal(archive(symlink("link", target)), tmp_path) is Reason.SANDBOX_UNSAFE_LINK


def test_a_chain_of_links_cannot_climb(tmp_path: Path) -> None:
    chain = archive(symlink("d/e/f/up", "../../.."), symlink("out", "d/e/f/up/../x"))
    assert refusal(chain, tmp_path) is Reason.SANDBOX_UNSAFE_LINK


def test_nothing_is_put_through_a_link(tmp_path: Path) -> None:
    raw = archive(symlink("link", "folder"), text("link/file"))
    assert refusal(raw, tmp_path) is Reason.SANDBOX_UNSAFE_PATH
    raw = archive(text("a/b"), symlink("a", "folder"))
    assert refusal(raw, tmp_path) is Reason.SANDBOX_UNSAFE_PATH


@pytest.mark.parametrize("target", ["../x", "/etc/passwd", "later", "link", "folder"])
def test_a_hard_link_must_name_a_file_of_the_sandbox(target: str, tmp_path: Path) -> None:
    raw = archive(
        member("folder", type=tarfile.DIRTYPE),
        symlink("link", "folder"),
        member("hard", type=tarfile.LNKTYPE, linkname=target),
        text("later"),
    )
    assert refusal(raw, tmp_path) in (Reason.SANDBOX_UNSAFE_LINK, Reason.SANDBOX_UNSAFE_PATH)


def test_a_hard_link_inside_is_fine(tmp_path: Path) -> None:
    raw = archive(text("a/one", b"same"), member("two", type=tarfile.LNKTYPE, linkname="a/one"))
    unpack(io.BytesIO(raw), tmp_path)
    assert (tmp_path / "two").read_bytes() == b"same"


@pytest.mark.parametrize(
    "kind",
    [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.CONTTYPE, tarfile.GNUTYPE_SPARSE, b"Z"],
)
def test_special_members_are_refused(kind: bytes, tmp_path: Path) -> None:
    assert refusal(archive(member("x", type=kind)), tmp_path) is Reason.SANDBOX_UNSAFE_MEMBER


@pytest.mark.parametrize("second", ["x", "./x", "x/", ".//x"])
def test_a_name_comes_once(second: str, tmp_path: Path) -> None:
    assert refusal(archive(text("x"), text(second)), tmp_path) is Reason.SANDBOX_UNSAFE_PATH
    assert refusal(archive(text("x"), text(f"{second}/y")), tmp_path) is Reason.SANDBOX_UNSAFE_PATH


def test_a_bomb_is_refused_before_it_unfolds(tmp_path: Path) -> None:
    limits = Limits(unpacked_bytes=10_000, members=10)
    bomb = archive(text("zeros", b"\0" * 1_000_000))
    assert refusal(bomb, tmp_path, limits) is Reason.SANDBOX_TOO_LARGE
    many = archive(*(text(f"file{number}") for number in range(11)))
    assert refusal(many, tmp_path, limits) is Reason.SANDBOX_TOO_LARGE
    tail = gzip.compress(gzip.decompress(archive(text("x"))) + b"\0" * 3_000_000)
    assert refusal(tail, tmp_path, limits) is Reason.SANDBOX_TOO_LARGE


def test_a_header_cannot_ask_for_memory(tmp_path: Path) -> None:
    """A pax header or a long name of a gigabyte would be read in one piece."""
    for kind in (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK):
        header = member("x", type=kind, size=2**30).tobuf(tarfile.GNU_FORMAT)
        assert refusal(gzip.compress(header + b"\0" * 100_000), tmp_path) is Reason.SANDBOX_MALFORMED
    nested = member("x", type=tarfile.XHDTYPE).tobuf(tarfile.USTAR_FORMAT) * 2000
    assert refusal(gzip.compress(nested + b"\0" * 1024), tmp_path) is Reason.SANDBOX_MALFORMED


def test_every_cut_is_noticed(tmp_path: Path) -> None:
    whole = archive(text("a", b"1" * 700), text("b", os.urandom(600)), symlink("c", "a"))
    check_archive(io.BytesIO(whole))
    for length in (0, 5, 12, len(whole) // 3, len(whole) // 2, len(whole) - 9, len(whole) - 1):
        assert refusal(whole[:length], tmp_path) in (Reason.SANDBOX_TRUNCATED, Reason.SANDBOX_MALFORMED)
    assert refusal(whole[: len(whole) // 2], tmp_path) is Reason.SANDBOX_TRUNCATED
    raw = gzip.decompress(whole)
    for length in (512, 700, 1024 + 512, len(raw) - 1024):
        assert refusal(gzip.compress(raw[:length]), tmp_path) is Reason.SANDBOX_TRUNCATED


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"no archive at all",
        gzip.compress(b""),
        gzip.compress(b"no tar archive" * 100),
        gzip.compress(gzip.decompress(archive(text("a"))) + b"hidden" * 200),
        gzip.compress(gzip.decompress(archive(text("a"), end=False)) + b"rubbish!" * 200),
        archive(text("a")) + b"trailing rubbish",
        archive(member("folder", type=tarfile.DIRTYPE, size=5)),
    ],
)
def test_what_is_no_archive_is_refused(raw: bytes, tmp_path: Path) -> None:
    assert refusal(raw, tmp_path) in (Reason.SANDBOX_MALFORMED, Reason.SANDBOX_TRUNCATED)


def test_a_changed_byte_in_the_stream_is_noticed(tmp_path: Path) -> None:
    raw = bytearray(archive(text("a", os.urandom(2000))))
    raw[len(raw) // 2] ^= 1
    assert refusal(bytes(raw), tmp_path) in (Reason.SANDBOX_MALFORMED, Reason.SANDBOX_TRUNCATED)


def test_an_empty_archive_is_fine(tmp_path: Path) -> None:
    file = io.BytesIO()
    pack([], tmp_path, file)
    assert check_archive(io.BytesIO(file.getvalue())).members == 0


def test_nothing_is_written_over_unless_asked(tmp_path: Path) -> None:
    raw = archive(text("first", b"new"), text("second", b"new"))
    (tmp_path / "second").write_text("precious")
    with pytest.raises(PilotageError) as caught:
        unpack(io.BytesIO(raw), tmp_path)
    assert caught.value.exit_code == 2
    assert (tmp_path / "second").read_text() == "precious"
    assert not (tmp_path / "first").exists()
    unpack(io.BytesIO(raw), tmp_path, overwrite=True)
    assert (tmp_path / "second").read_text() == "new"


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_full_disk_leaves_no_part_of_a_file_and_takes_none_away(overwrite: bool, tmp_path: Path) -> None:
    raw = archive(text("small", b"s"), symlink("link", "small"), text("folder/large", b"l" * 100_000))
    large = tmp_path / "folder" / "large"
    if overwrite:
        large.parent.mkdir()
        large.write_text("what was there")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(OSError, match="too large"):
            unpack(io.BytesIO(raw), tmp_path, overwrite=overwrite)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    left = {path.name for path in tmp_path.rglob("*") if not path.is_dir()}
    assert left == ({"large"} if overwrite else set())
    assert not overwrite or large.read_text() == "what was there"
    assert unpack(io.BytesIO(raw), tmp_path, overwrite=overwrite).names
    assert large.stat().st_size == 100_000


def test_links_that_are_there_already_are_not_followed(tmp_path: Path) -> None:
    outside, out = tmp_path / "outside", tmp_path / "out"
    outside.mkdir()
    out.mkdir()
    (outside / "file").write_text("precious")
    (out / "folder").symlink_to(outside)
    with pytest.raises(PilotageError):
        unpack(io.BytesIO(archive(text("folder/file"))), out, overwrite=True)
    (out / "folder").unlink()
    (out / "file").symlink_to(outside / "file")
    unpack(io.BytesIO(archive(text("file", b"new"))), out, overwrite=True)
    assert (outside / "file").read_text() == "precious"
    assert not (out / "file").is_symlink()


NAMES = st.lists(st.sampled_from(["a", "b", "c", "..", ".", "", "\0", "ü"]), min_size=1, max_size=6).map("/".join)


@settings(max_examples=300, deadline=None)
@given(folders=NAMES, target=NAMES)
def test_a_link_that_is_accepted_stays_inside_whatever_the_other_links_are(folders: str, target: str) -> None:
    try:
        parts = check_name(folders)
        check_symlink(parts or ("x",), target)
    except PilotageError:
        return
    steps = [step for step in target.split("/") if step not in ("", ".")]
    depth = len(parts or ("x",)) - 1
    for step in steps:
        depth = depth - 1 if step == ".." else depth + 1
        assert depth >= 0
    assert ".." not in steps[steps.count("..") :]


@settings(max_examples=150, deadline=None)
@given(raw=st.binary(max_size=2000))
def test_rubbish_raises_our_own_errors_only(raw: bytes) -> None:
    for data in (raw, gzip.compress(raw)):
        with contextlib.suppress(SandboxError):
            check_archive(io.BytesIO(data))
