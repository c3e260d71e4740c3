"""pilotage-verify answers one request with one record, out of a sandbox that it closes itself."""

import hashlib
import os
import struct
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from pilotage.reasons import Reason
from pilotage_helper import VerifyOptions
from support import acs
from support import vectors as v

pytestmark = pytest.mark.root

MAGIC = b"PILVRFY1"
NONCE = bytes(range(16))
REQUIRE_KEY = 0x02
IDENTITY = 4 * 4 + 3 * 8 + 2 * 32 + 2 * 1024 + 2 * 256 + 256 * 256
RECORD = 8 + 4 + 4 + 16 + 32 + IDENTITY + 8


@pytest.fixture(scope="module")
def program(stage: Path) -> Path:
    return stage / "libexec" / "pilotage" / "pilotage-verify"


def request(pem: bytes, *, magic: bytes = MAGIC, version: int = 1, size: int | None = None) -> bytes:
    length = len(pem) if size is None else size
    now = int(time.time())
    return struct.pack("<8sII16sqiIqq", magic, version, length, NONCE, now, 300, REQUIRE_KEY, 0, 0) + pem


def run(
    program: Path, data: bytes, options: VerifyOptions, *, before: Sequence[str] = ()
) -> subprocess.CompletedProcess[bytes]:
    command = [*before, str(program), str(options.ca_dir), str(options.voms_dir), "-"]
    return subprocess.run(command, input=data, capture_output=True, timeout=240, check=False, env={"SECRET": "x"})


def reason(record: bytes, pem: bytes) -> Reason | None:
    """Check the envelope; return the reason, None for an identity."""
    assert len(record) == RECORD
    assert record[:8] == record[-8:] == MAGIC
    assert struct.unpack_from("<II", record, 8) == (1, RECORD)
    assert record[16:32] == NONCE
    assert record[32:64] == hashlib.sha256(pem).digest()
    number = int(struct.unpack_from("<i", record, 64)[0])
    return Reason(number) if number else None


def text(record: bytes, offset: int, size: int) -> str:
    field = record[64 + 104 + offset : 64 + 104 + offset + size]
    return field.split(b"\0")[0].decode()


def test_an_identity_comes_out_as_one_record(
    program: Path, alice: v.Entity, good: acs.Ac, options: VerifyOptions
) -> None:
    pem = acs.proxy(alice, acs.value(good)).pem
    for before in ((), ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")):
        open_to_all(options)
        done = run(program, request(pem), options, before=before)
        assert (done.returncode, done.stderr) == (0, b"")
        assert reason(done.stdout, pem) is None
        assert text(done.stdout, 0, 1024) == "/O=Test Grid/CN=alice"
        assert text(done.stdout, 2 * 1024, 256) == "demo"
        assert text(done.stdout, 2 * 1024 + 512, 256) == "/demo/Role=analysis"


def open_to_all(options: VerifyOptions) -> None:
    """Let another account reach the directories; pytest's own are closed."""
    for folder in options.ca_dir.parents:
        if folder == Path("/tmp"):
            break
        folder.chmod(folder.stat().st_mode | 0o011)


@pytest.mark.parametrize("kind", ["rsa", "ec", "ec384"])
def test_every_kind_of_key_is_verified_inside_the_sandbox(
    kind: str, program: Path, grid: v.Authority, options: VerifyOptions
) -> None:
    pem = v.proxy(grid.user(key=v.key(kind, 3)), key=v.key(kind, 7)).pem
    assert reason(run(program, request(pem), options).stdout, pem) is None


def test_a_refusal_is_a_record_too(program: Path, grid: v.Authority, options: VerifyOptions, tmp_path: Path) -> None:
    expired = v.proxy(grid.user(), start=v.NOW - 3 * v.HOUR, end=v.NOW - v.HOUR).pem
    for pem, expected in ((expired, Reason.PROXY_EXPIRED), (b"", Reason.PROXY_EMPTY), (b"\0", Reason.PROXY_MALFORMED)):
        done = run(program, request(pem), options)
        assert (done.returncode, reason(done.stdout, pem)) == (0, expected)
    nowhere = VerifyOptions(tmp_path / "nowhere", options.voms_dir)
    assert reason(run(program, request(expired), nowhere).stdout, expired) is Reason.CA_DIRECTORY_UNUSABLE


def test_directories_must_be_roots(program: Path, grid: v.Authority, options: VerifyOptions) -> None:
    pem = v.proxy(grid.user()).pem
    os.chown(grid.ca_dir, 65534, 65534)
    assert reason(run(program, request(pem), options).stdout, pem) is Reason.CA_DIRECTORY_UNUSABLE
    os.chown(grid.ca_dir, 0, 0)
    os.chown(grid.file(".0"), 65534, 65534)
    assert reason(run(program, request(pem), options).stdout, pem) is Reason.CA_DIRECTORY_UNUSABLE


def test_a_malformed_request_gets_no_record(program: Path, grid: v.Authority, options: VerifyOptions) -> None:
    pem = v.proxy(grid.user()).pem
    for data in (
        b"",
        request(pem)[:40],
        request(pem)[:-1],
        request(pem, magic=b"PILVRFY2"),
        request(pem, version=2),
        request(pem, size=300_000),
    ):
        done = run(program, data, options)
        assert done.returncode == 1
        assert done.stdout == b""


def test_before_it_reads_it_has_closed_its_sandbox(program: Path, options: VerifyOptions) -> None:
    spare = os.open("/etc/passwd", os.O_RDONLY)
    with subprocess.Popen(
        [str(program), str(options.ca_dir), "-", "-"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={"SECRET": "x"},
        pass_fds=[spare],
    ) as process:
        proc = Path(f"/proc/{process.pid}")
        until = time.monotonic() + 60
        while "Seccomp:\t2" not in (status := (proc / "status").read_text()) and time.monotonic() < until:
            os.sched_yield()
        assert "Seccomp:\t2" in status
        assert "NoNewPrivs:\t1" in status
        targets = {os.readlink(fd) for fd in (proc / "fd").iterdir()}
        assert "/etc/passwd" not in targets
        assert {t for t in targets if not t.startswith("pipe:")} == {str(options.ca_dir)}
        limits = (proc / "limits").read_text()
        assert "Max core file size        0" in limits
        process.kill()
    os.close(spare)


def test_files_outside_the_directories_are_out_of_reach(
    program: Path, grid: v.Authority, options: VerifyOptions, tmp_path: Path
) -> None:
    pem = v.proxy(grid.user()).pem
    inside, outside = grid.ca_dir / "ca.pem", tmp_path / "outside.pem"
    inside.write_bytes(grid.file(".0").read_bytes())
    outside.write_bytes(inside.read_bytes())
    grid.file(".0").unlink()
    grid.file(".0").symlink_to("ca.pem")
    assert reason(run(program, request(pem), options).stdout, pem) is None
    grid.file(".0").unlink()
    grid.file(".0").symlink_to(outside)
    if "landlock" not in lsm():
        pytest.skip("this kernel has no Landlock: what the uid can read, the verifier can read")
    assert reason(run(program, request(pem), options).stdout, pem) is Reason.CA_DIRECTORY_UNUSABLE


def lsm() -> str:
    """Return the kernel's security modules, mounting securityfs nowhere."""
    path = Path("/sys/kernel/security/lsm")
    if path.exists():
        return path.read_text()
    landlock_create_ruleset, version = 444, 1
    import ctypes

    found = ctypes.CDLL(None).syscall(landlock_create_ruleset, None, 0, version)
    return "landlock" if found > 0 else ""
