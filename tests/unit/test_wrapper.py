"""The real wrapper file, run as its own process over a real socketpair, with good and hostile inputs."""

import ast
import io
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType

import pytest

import pilotage_pilot

WRAPPER = Path(pilotage_pilot.__file__).parent / "wrapper" / "pilotage_wrapper.py"
BASE = {"HOME": "/nonexistent", "PATH": "/usr/bin:/bin", "X509_USER_PROXY": "/run/proxy", "LANG": "C.UTF-8"}
Frame = tuple[bytes, bytes]


class Driver:
    """Plays the pilot's side of the wrapper's socket."""

    def __init__(self, work: Path) -> None:
        work.mkdir()
        self.work = work
        self.ours, theirs = socket.socketpair()
        self.ours.settimeout(120)
        self.process = subprocess.Popen(
            [sys.executable, "-I", str(WRAPPER)],
            stdin=theirs.fileno(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=work,
            env=BASE,
        )
        theirs.close()

    def __enter__(self) -> "Driver":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.ours.close()
        self.process.kill()
        self.process.communicate()

    def send(self, kind: bytes, body: bytes = b"") -> None:
        self.ours.sendall(struct.pack("!cI", kind, len(body)) + body)

    def manifest(self, command: Sequence[str], **changes: object) -> None:
        fields: dict[str, object] = {
            "job_id": "job-1",
            "attempt": 1,
            "command": list(command),
            "environment": {},
            "outputs": [],
            "has_input": False,
            "max_input_bytes": 1 << 20,
            "max_unpacked_bytes": 1 << 22,
            "max_output_bytes": 1 << 20,
            "wall_seconds": 60,
            "cores": 2,
            "site": "TOY",
        }
        self.send(b"M", json.dumps(fields | changes).encode())

    def exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            part = self.ours.recv(count - len(data))
            if not part:
                raise EOFError
            data += part
        return data

    def frame(self) -> Frame:
        kind, length = struct.unpack("!cI", self.exactly(5))
        return kind, self.exactly(length)

    def frames(self) -> Iterator[Frame]:
        while True:
            try:
                yield self.frame()
            except EOFError:
                return

    def finish(self) -> tuple[list[Frame], int, str, str]:
        """Return all frames, the exit code, and what was printed."""
        frames = list(self.frames())
        self.ours.close()
        out, err = self.process.communicate(timeout=120)
        return frames, self.process.returncode, out.decode(), err.decode()


@pytest.fixture
def wrapper(tmp_path: Path) -> Iterator[Driver]:
    with Driver(tmp_path / "work") as driver:
        yield driver


def archive(members: Sequence[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for member, data in members:
            member.size = len(data) if member.isreg() else 0
            tar.addfile(member, io.BytesIO(data))
    return out.getvalue()


def entry(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", mode: int = 0o644) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname, member.mode = kind, link, mode
    return member


def error(frames: Sequence[Frame]) -> Mapping[str, str]:
    assert frames[-1][0] == b"E", frames
    fields = json.loads(frames[-1][1])
    assert fields["message"]
    return dict(fields)


def ended(frames: Sequence[Frame]) -> Mapping[str, float]:
    return dict(json.loads(next(body for kind, body in frames if kind == b"X")))


def outputs(frames: Sequence[Frame]) -> dict[str, bytes]:
    data = b"".join(body for kind, body in frames if kind == b"O")
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as tar:
        return {
            member.name: content.read() if (content := tar.extractfile(member)) else b"" for member in tar.getmembers()
        }


def run_with_input(
    wrapper: Driver, data: bytes, command: Sequence[str] = ("/bin/true",), **changes: object
) -> list[Frame]:
    wrapper.manifest(command, has_input=True, **changes)
    try:
        for start in range(0, len(data), 1000):
            wrapper.send(b"I", data[start : start + 1000])
        wrapper.send(b"I")
    except BrokenPipeError:
        pass
    return wrapper.finish()[0]


def handles_sigterm(pid: int) -> bool:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    caught = next(line.split()[1] for line in lines if line.startswith("SigCgt"))
    return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)


def test_a_payload_runs_and_its_end_is_reported(wrapper: Driver) -> None:
    wrapper.manifest(["/bin/sh", "-c", "echo out; echo err >&2; exit 7"])
    frames, code, out, err = wrapper.finish()
    assert [kind for kind, _ in frames] == [b"S", b"X", b"D"]
    assert json.loads(frames[0][1])["state"] == "started"
    end = ended(frames)
    assert (end["exit_code"], end["signal"], code, out, err) == (7, 0, 7, "out\n", "err\n")
    assert end["wall_seconds"] >= 0
    assert end["max_rss_bytes"] > 0


def test_input_arrives_and_outputs_come_back(wrapper: Driver) -> None:
    data = archive(
        [
            (entry("bin/", tarfile.DIRTYPE), b""),
            (entry("bin/run.sh", mode=0o755), b"#!/bin/sh\ncat data/a.txt > out.txt\nmkdir d; echo 2 > d/two\n"),
            (entry("data/a.txt", mode=0o4777), b"hello"),
            (entry("data/link", tarfile.SYMTYPE, "../bin/run.sh"), b""),
            (entry("data/hard", tarfile.LNKTYPE, "data/a.txt"), b""),
        ]
    )
    frames = run_with_input(wrapper, data, ["bin/run.sh"], outputs=["out.txt", "d", "*.none", "data/h*"])
    assert error(frames)["reason"] == "OUTPUT_MISSING"
    assert ended(frames)["exit_code"] == 0
    assert (wrapper.work / "data/a.txt").stat().st_mode & 0o7777 == 0o700
    assert (wrapper.work / "data/link").readlink() == Path("../bin/run.sh")


def test_outputs_are_one_archive_of_files_and_directories(wrapper: Driver) -> None:
    script = "mkdir -p d/e; echo 1 > one; echo 2 > d/e/two; echo h > .hidden"
    wrapper.manifest(["/bin/sh", "-c", script], outputs=["one", "d", "o*", "d/e/t?o", "./one"])
    frames, code, _, _ = wrapper.finish()
    assert (frames[-1], code) == ((b"D", b""), 0)
    assert outputs(frames) == {"one": b"1\n", "d": b"", "d/e": b"", "d/e/two": b"2\n"}


def test_a_star_does_not_match_a_hidden_file(wrapper: Driver) -> None:
    wrapper.manifest(["/bin/sh", "-c", "touch .hidden seen"], outputs=["*"])
    assert outputs(wrapper.finish()[0]) == {"seen": b""}


def test_a_failed_payload_sends_the_outputs_it_made_and_none_is_missed(wrapper: Driver) -> None:
    wrapper.manifest(["/bin/sh", "-c", "echo 1 > one; exit 3"], outputs=["one", "two"])
    frames, code, _, _ = wrapper.finish()
    assert (outputs(frames), frames[-1][0], code) == ({"one": b"1\n"}, b"D", 3)


@pytest.mark.parametrize(
    ("member", "reason"),
    [
        (entry("../evil"), "SANDBOX_UNSAFE_PATH"),
        (entry("a/../../evil"), "SANDBOX_UNSAFE_PATH"),
        (entry("/tmp/evil"), "SANDBOX_UNSAFE_PATH"),
        (entry("/".join(["d"] * 70) + "/f"), "SANDBOX_UNSAFE_PATH"),
        (entry("n" * 300), "SANDBOX_UNSAFE_PATH"),
        (entry("."), "SANDBOX_UNSAFE_PATH"),
        (entry("l", tarfile.SYMTYPE, "/etc/passwd"), "SANDBOX_UNSAFE_LINK"),
        (entry("l", tarfile.SYMTYPE, "../x"), "SANDBOX_UNSAFE_LINK"),
        (entry("a/l", tarfile.SYMTYPE, "../../x"), "SANDBOX_UNSAFE_LINK"),
        (entry("l", tarfile.SYMTYPE, "a/../.."), "SANDBOX_UNSAFE_LINK"),
        (entry("l", tarfile.SYMTYPE, ""), "SANDBOX_UNSAFE_LINK"),
        (entry("h", tarfile.LNKTYPE, "../../etc/passwd"), "SANDBOX_UNSAFE_PATH"),
        (entry("h", tarfile.LNKTYPE, "/etc/passwd"), "SANDBOX_UNSAFE_PATH"),
        (entry("p", tarfile.FIFOTYPE), "SANDBOX_UNSAFE_MEMBER"),
        (entry("c", tarfile.CHRTYPE), "SANDBOX_UNSAFE_MEMBER"),
        (entry("b", tarfile.BLKTYPE), "SANDBOX_UNSAFE_MEMBER"),
    ],
    ids=lambda value: value if isinstance(value, str) else f"{value.name[:12]}-{value.linkname[:12]}",
)
def test_a_hostile_member_is_refused(wrapper: Driver, tmp_path: Path, member: tarfile.TarInfo, reason: str) -> None:
    frames = run_with_input(wrapper, archive([(member, b"evil")]))
    assert error(frames)["reason"] == reason
    assert len(frames) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["work"]


def test_a_file_is_not_written_through_a_link_of_the_archive(wrapper: Driver, tmp_path: Path) -> None:
    data = archive([(entry("d/", tarfile.DIRTYPE), b""), (entry("l", tarfile.SYMTYPE, "d"), b""), (entry("l/f"), b"x")])
    assert error(run_with_input(wrapper, data))["reason"] == "SANDBOX_UNSAFE_LINK"
    assert not (wrapper.work / "d" / "f").exists()


def test_two_links_that_are_harmless_alone_do_not_lead_out_together(wrapper: Driver) -> None:
    data = archive(
        [
            (entry("a/b/up", tarfile.SYMTYPE, "../.."), b""),
            (entry("a/b/out", tarfile.SYMTYPE, "up/../../etc"), b""),
        ]
    )
    assert error(run_with_input(wrapper, data))["reason"] == "SANDBOX_UNSAFE_LINK"


def test_a_name_that_stands_twice_is_refused(wrapper: Driver) -> None:
    frames = run_with_input(wrapper, archive([(entry("f"), b"1"), (entry("f"), b"2")]))
    assert error(frames)["reason"] == "SANDBOX_UNSAFE_MEMBER"


def test_a_truncated_sandbox_is_refused_as_such(wrapper: Driver) -> None:
    data = archive([(entry("f"), os.urandom(20000))])
    assert error(run_with_input(wrapper, data[: len(data) // 2]))["reason"] == "SANDBOX_TRUNCATED"


def test_a_sandbox_without_its_checksum_is_truncated(wrapper: Driver) -> None:
    assert error(run_with_input(wrapper, archive([(entry("f"), b"x")])[:-4]))["reason"] == "SANDBOX_TRUNCATED"


def test_a_stream_that_ends_between_frames_is_truncated(wrapper: Driver) -> None:
    wrapper.manifest(["/bin/true"], has_input=True)
    wrapper.send(b"I", archive([(entry("f"), b"x")])[:20])
    wrapper.ours.shutdown(socket.SHUT_WR)
    assert error(wrapper.finish()[0])["reason"] == "SANDBOX_TRUNCATED"


@pytest.mark.parametrize(
    "data", [b"not gzip at all", archive([(entry("f"), b"x")]) + b"trailing", b"\x1f\x8b" + bytes(30)]
)
def test_what_is_no_archive_is_refused(wrapper: Driver, data: bytes) -> None:
    assert error(run_with_input(wrapper, data))["reason"] == "SANDBOX_MALFORMED"


def test_a_bomb_is_stopped_at_the_unpacked_limit(wrapper: Driver) -> None:
    frames = run_with_input(wrapper, archive([(entry("f"), bytes(8 << 20))]))
    assert error(frames)["reason"] == "SANDBOX_TOO_LARGE"


def test_more_bytes_than_announced_are_refused(wrapper: Driver) -> None:
    frames = run_with_input(wrapper, archive([(entry("f"), os.urandom(50000))]), max_input_bytes=30000)
    assert error(frames)["reason"] == "SANDBOX_TOO_LARGE"


@pytest.mark.parametrize(
    "name",
    [
        "LD_PRELOAD",
        "LD_LIBRARY_PATH",
        "HOME",
        "X509_USER_PROXY",
        "TMPDIR",
        "PILOTAGE_RUN_ID",
        "PANDAID",
        "A-B",
        "1A",
        "",
        "A=B",
        "É",
    ],
)
def test_a_reserved_or_odd_variable_is_refused(wrapper: Driver, name: str) -> None:
    wrapper.manifest(["/bin/true"], environment={name: "x"})
    assert error(wrapper.finish()[0])["reason"] == "ENVIRONMENT_REFUSED"


def test_the_payload_sees_the_helpers_and_its_own_environment(wrapper: Driver) -> None:
    wrapper.manifest(["env"], environment={"SEED": "42", "PATH": "/mine"})
    _, code, out, _ = wrapper.finish()
    assert code == 0
    assert dict(line.split("=", 1) for line in out.splitlines()) == BASE | {
        "SEED": "42",
        "PATH": "/mine",
        "PANDAID": "job-1",
        "PILOT_SITENAME": "TOY",
        "ATHENA_PROC_NUMBER": "2",
        "PILOTAGE_ATTEMPT": "1",
        "PILOTAGE_WALL_SECONDS": "60",
    }


def test_the_payload_has_three_descriptors_and_an_empty_standard_input(wrapper: Driver) -> None:
    listing = 'for f in /proc/$$/fd/*; do [ -e "$f" ] && printf "%s " "${f##*/}"; done; readlink /proc/$$/fd/0; cat'
    wrapper.manifest(["/bin/sh", "-c", listing])
    _, code, out, _ = wrapper.finish()
    assert (code, out) == (0, "0 1 2 /dev/null\n")


def test_a_payload_that_writes_to_its_standard_input_does_not_reach_the_pilot(wrapper: Driver) -> None:
    wrapper.manifest(["/bin/sh", "-c", "printf 'D\\0\\0\\0\\0' >&0; exit 0"])
    frames, _, _, _ = wrapper.finish()
    assert [kind for kind, _ in frames] == [b"S", b"X", b"D"]


def test_a_payload_that_kills_itself_is_reported_by_its_signal(wrapper: Driver) -> None:
    wrapper.manifest(["/bin/sh", "-c", "kill -9 $$"])
    frames, code, _, _ = wrapper.finish()
    end = ended(frames)
    assert (end["exit_code"], end["signal"], code) == (-1, 9, 137)


def test_a_payload_that_closes_its_output_early_still_ends_well(wrapper: Driver) -> None:
    wrapper.manifest(["/bin/sh", "-c", "exec 1>&- 2>&-; sleep 0.1; exit 4"])
    assert ended(wrapper.finish()[0])["exit_code"] == 4


def test_sigterm_is_passed_on_to_the_payload(wrapper: Driver) -> None:
    wrapper.manifest(["/bin/sh", "-c", "trap 'echo bye; exit 9' TERM; echo ready; while :; do sleep 0.05; done"])
    assert wrapper.frame()[0] == b"S"
    assert wrapper.process.stdout is not None
    assert wrapper.process.stdout.readline() == b"ready\n"
    wrapper.process.send_signal(signal.SIGTERM)
    frames, code, out, _ = wrapper.finish()
    assert (ended(frames)["exit_code"], code, out) == (9, 9, "bye\n")


def test_sigterm_before_the_payload_means_it_is_not_started(wrapper: Driver) -> None:
    wrapper.manifest(["/bin/sh", "-c", "echo started"], has_input=True)
    data = archive([(entry("f"), b"x")])
    wrapper.send(b"I", data[:30])
    while not handles_sigterm(wrapper.process.pid):
        time.sleep(0.01)
    wrapper.process.send_signal(signal.SIGTERM)
    wrapper.send(b"I", data[30:])
    wrapper.send(b"I")
    frames, _, out, _ = wrapper.finish()
    assert (error(frames)["reason"], out) == ("PAYLOAD_FAILED", "")


def test_a_payload_that_ends_at_once_is_still_seen_to_end(tmp_path: Path) -> None:
    for number in range(20):
        with Driver(tmp_path / str(number)) as driver:
            driver.manifest(["/bin/true"])
            assert [kind for kind, _ in driver.finish()[0]] == [b"S", b"X", b"D"]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_what_the_payload_left_in_its_group_is_killed_before_outputs_are_collected(wrapper: Driver) -> None:
    wrapper.manifest(["/bin/sh", "-c", "sleep 60 & echo $! > pid"], outputs=["pid"])
    frames, code, _, _ = wrapper.finish()
    left = int(outputs(frames)["pid"])
    assert code == 0
    # SIGKILL is on its way by then; on a busy machine it takes a moment to arrive.
    deadline = time.monotonic() + 30
    while alive(left):
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("command", [["no-such-program"], ["./nothing"], ["./"], ["/etc/passwd"], [""], []])
def test_a_program_that_cannot_run_is_named(wrapper: Driver, command: list[str]) -> None:
    wrapper.manifest(command)
    frames, code, _, _ = wrapper.finish()
    assert (error(frames)["reason"], code) == ("COMMAND_NOT_FOUND", 120)


def test_a_huge_output_is_refused_at_the_limit(wrapper: Driver) -> None:
    wrapper.manifest(["/bin/sh", "-c", "head -c 3000000 /dev/urandom > big"], outputs=["big"])
    frames, _, _, _ = wrapper.finish()
    assert error(frames)["reason"] == "SANDBOX_TOO_LARGE"
    assert sum(len(body) for kind, body in frames if kind == b"O") <= 1 << 20


def test_an_output_through_a_link_is_not_packed(wrapper: Driver) -> None:
    wrapper.manifest(["/bin/sh", "-c", "ln -s /etc/passwd out"], outputs=["out"])
    assert error(wrapper.finish()[0])["reason"] == "OUTPUT_MISSING"


def test_an_output_below_a_linked_directory_is_not_packed(wrapper: Driver) -> None:
    wrapper.manifest(["/bin/sh", "-c", "ln -s /etc d"], outputs=["d/passwd"])
    assert error(wrapper.finish()[0])["reason"] == "OUTPUT_MISSING"


def test_links_and_pipes_inside_an_output_directory_are_left_out_and_said(wrapper: Driver) -> None:
    wrapper.manifest(["/bin/sh", "-c", "mkdir d; ln -s /etc/passwd d/l; mkfifo d/p; echo 1 > d/f"], outputs=["d"])
    frames, _, _, err = wrapper.finish()
    assert outputs(frames) == {"d": b"", "d/f": b"1\n"}
    assert "d/l" in err
    assert "d/p" in err


@pytest.mark.parametrize("pattern", ["../*", "/etc/passwd", "a/../../b", ".", ""])
def test_an_output_pattern_that_leads_out_stops_the_attempt_before_it_starts(wrapper: Driver, pattern: str) -> None:
    wrapper.manifest(["/bin/true"], outputs=[pattern])
    frames, _, _, _ = wrapper.finish()
    assert error(frames)["reason"] == "SANDBOX_UNSAFE_PATH"
    assert len(frames) == 1


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"command": []}', b"[" * 100000])
def test_a_bad_manifest_is_a_protocol_error(wrapper: Driver, body: bytes) -> None:
    wrapper.send(b"M", body)
    assert error(wrapper.finish()[0])["reason"] == "WRAPPER_PROTOCOL"


def test_a_frame_out_of_turn_is_a_protocol_error(wrapper: Driver) -> None:
    wrapper.send(b"I", b"x")
    assert error(wrapper.finish()[0])["reason"] == "WRAPPER_PROTOCOL"


def test_the_wrapper_ends_when_the_pilot_is_gone(wrapper: Driver) -> None:
    wrapper.manifest(["/bin/sh", "-c", "sleep 0.2"])
    assert wrapper.frame()[0] == b"S"
    wrapper.ours.close()
    _, err = wrapper.process.communicate(timeout=120)
    assert wrapper.process.returncode == 120
    assert b"does not listen" in err


def test_a_wrapper_without_a_socket_says_so(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-I", str(WRAPPER)], stdin=subprocess.DEVNULL, capture_output=True, cwd=tmp_path, check=False
    )
    assert (done.returncode, done.stdout) == (120, b"")
    assert b"not the pilot's socket" in done.stderr


def test_the_wrapper_is_standard_library_python_3_9() -> None:
    tree = ast.parse(WRAPPER.read_text(), feature_version=(3, 9))
    imported = {
        (node.module or "").split(".")[0] if isinstance(node, ast.ImportFrom) else node.names[0].name.split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    assert imported <= sys.stdlib_module_names
