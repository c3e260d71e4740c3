"""How the pilot drives a payload: clocks, orders, hostile wrappers. The helper is a stand-in without privilege."""

import asyncio
import os
import sys
import textwrap
import time
from collections.abc import Callable, Coroutine
from pathlib import Path

import msgspec
import pytest

import pilotage_pilot
from pilotage.reasons import Reason
from pilotage.states import Outcome
from pilotage_pilot.dialogue import Manifest, Outputs
from pilotage_pilot.lease import Stream
from pilotage_pilot.outcomes import Cause, Ending, judge
from pilotage_pilot.running import Clocks, Stop, Watcher, run_payload
from pilotage_pilot.session import Session
from pilotage_pilot.streams import LogStream
from pilotage_pilot.switch import Helper, Started
from support import plain_helper

WRAPPER = Path(pilotage_pilot.__file__).parent / "wrapper" / "pilotage_wrapper.py"
MANIFEST = Manifest(
    job_id="job-1",
    attempt=1,
    command=("/bin/true",),
    environment={},
    outputs=(),
    has_input=False,
    max_input_bytes=1 << 20,
    max_unpacked_bytes=1 << 20,
    max_output_bytes=1 << 20,
    wall_seconds=60,
    cores=1,
    site="TOY",
)
CLOCKS = Clocks(prepare_seconds=10, wall_seconds=10, collect_seconds=10, grace_seconds=5)
FRAME = """import struct, socket, sys, time
w = socket.socket(fileno=0)
def f(k, b): w.sendall(struct.pack('!cI', k, len(b)) + b)
"""
BEGIN = 'f(b\'S\', b\'{"state": "started", "pid": 7}\')\n'
EXIT = (
    'f(b\'X\', b\'{"exit_code": 0, "signal": 0, "wall_seconds": 1, "cpu_user_seconds": 1, "cpu_system_seconds": 1,'
    ' "max_rss_bytes": 1}\')\n'
)


class Bench:
    """One payload on a bench."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.behaviour: dict[str, object] = {}
        self.wrapper = WRAPPER
        self.stop = Stop()
        self.events: list[str] = []
        self.begun = asyncio.Event()
        (folder / "proxy").write_text("proxy")

    def wrapper_does(self, code: str) -> None:
        """Put another program where the wrapper should be."""
        self.wrapper = self.folder / "hostile.py"
        self.wrapper.write_text(FRAME + textwrap.dedent(code))

    def run(
        self,
        *command: str,
        clocks: Clocks = CLOCKS,
        meanwhile: Callable[[], Coroutine[None, None, None]] | None = None,
        **changes: object,
    ) -> tuple[Ending, Outputs | None, str]:
        """Run it, with what happens meanwhile; return the facts, the outputs and what it printed."""
        return asyncio.run(self._run(command, clocks, meanwhile, changes))

    async def _run(
        self,
        command: tuple[str, ...],
        clocks: Clocks,
        meanwhile: Callable[[], Coroutine[None, None, None]] | None,
        changes: dict[str, object],
    ) -> tuple[Ending, Outputs | None, str]:
        helper = Helper(plain_helper.install(self.folder, **self.behaviour), Path(sys.executable), self.wrapper)
        manifest = msgspec.structs.replace(MANIFEST, **({"command": command} if command else {}), **changes)
        # What is printed stays in the spools; no server is asked.
        session: Session = None  # type: ignore[assignment]
        spools = [self.folder / name for name in ("out", "err")]
        logs = [
            LogStream(session, "lease", stream, spool, 100_000)
            for stream, spool in zip((Stream.STDOUT, Stream.STDERR), spools, strict=True)
        ]
        watcher = Watcher(self._started, lambda: self.events.append("over"))
        async with asyncio.TaskGroup() as group:
            other = group.create_task(meanwhile()) if meanwhile else None
            async with asyncio.timeout(30):
                ending, outputs = await run_payload(
                    helper,
                    self.folder / "proxy",
                    "/O=Toy",
                    manifest,
                    None,
                    self.folder / "outputs",
                    logs,
                    clocks=clocks,
                    stop=self.stop,
                    watcher=watcher,
                )
            if other:
                other.cancel()
        for log in logs:
            log.close()
        return ending, outputs, spools[0].read_text()

    def _started(self, started: Started, pid: int) -> None:
        self.events.append(f"started as {started.account}")
        self.begun.set()


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_a_payload_goes_through_its_stages(bench: Bench) -> None:
    ending, outputs, printed = bench.run("/bin/sh", "-c", "echo hello; echo 1 > one", outputs=("one",))
    assert judge(ending).result.outcome is Outcome.OK
    assert (bench.events, printed) == (["started as toy", "over"], "hello\n")
    assert outputs is not None
    assert outputs.size_bytes == (bench.folder / "outputs").stat().st_size


def test_a_payload_beyond_its_wall_time_is_killed_even_if_it_ignores_sigterm(bench: Bench) -> None:
    clocks = msgspec.structs.replace(CLOCKS, wall_seconds=0.3)
    ending, _, _ = bench.run("/bin/sh", "-c", "trap '' TERM; while :; do sleep 0.1; done", clocks=clocks)
    assert ending.cause is Cause.WALL_TIME
    assert judge(ending).result.reason == "LIMIT_WALL_TIME"


def test_a_payload_that_obeys_sigterm_may_say_its_last_words(bench: Bench) -> None:
    trapped = bench.folder / "trapped"

    async def kill() -> None:
        while not trapped.exists():  # noqa: ASYNC110 -- another process makes it
            await asyncio.sleep(0.01)
        assert bench.stop.order(Cause.KILLED)
        assert not bench.stop.order(Cause.WALL_TIME)

    script = f"trap 'echo bye; exit 0' TERM; touch {trapped}; while :; do sleep 0.05; done"
    ending, _, printed = bench.run("/bin/sh", "-c", script, meanwhile=kill)
    assert printed == "bye\n"
    assert judge(ending).result.outcome is Outcome.KILLED


def test_an_order_after_the_end_changes_nothing(bench: Bench) -> None:
    ending, _, _ = bench.run()
    assert not bench.stop.order(Cause.KILLED)
    assert judge(ending).result.outcome is Outcome.OK


def test_a_helpers_front_that_ignores_sigterm_is_killed(bench: Bench) -> None:
    bench.behaviour = {"grace": 3600}
    clocks = msgspec.structs.replace(CLOCKS, wall_seconds=0.3, grace_seconds=0.5)
    ending, _, _ = bench.run("/bin/sh", "-c", "trap '' TERM; sleep 5", clocks=clocks)
    assert (ending.cause, ending.front_code) == (Cause.WALL_TIME, -9)


def test_a_refusal_of_the_helper_is_the_end_of_it(bench: Bench) -> None:
    refusal = {"code": 203, "number": 404, "reason": "NO_MAPPING", "retry": False, "message": "no"}
    bench.behaviour = {"refuse": refusal}
    ending, _, printed = bench.run("/bin/sh", "-c", "echo ran")
    assert (judge(ending).result.outcome, printed, bench.events) == (Outcome.IDENTITY, "", ["over"])


def test_a_helper_that_runs_as_somebody_else_is_killed_before_the_payload_begins(bench: Bench) -> None:
    bench.behaviour = {"dn": "/O=Toy/CN=somebody else", "grace": 3600}
    begun = time.monotonic()
    ending, _, printed = bench.run("/bin/sh", "-c", "echo ran; sleep 60")
    verdict = judge(ending)
    assert (ending.cause, ending.front_code, printed) == (Cause.WRONG_OWNER, -9, "")
    assert (verdict.result.outcome, verdict.result.reason) == (Outcome.IDENTITY, "DELEGATION_WRONG_OWNER")
    assert (verdict.blames_node, bench.events) == (True, [])
    assert time.monotonic() - begun < CLOCKS.grace_seconds


@pytest.mark.parametrize("mode", ["log-only", "Switch", "switch ", "none"])
def test_a_helper_that_does_not_switch_is_killed_before_the_payload_begins(bench: Bench, mode: str) -> None:
    bench.behaviour = {"mode": mode, "grace": 3600}
    begun = time.monotonic()
    ending, _, printed = bench.run("/bin/sh", "-c", "echo ran; sleep 60")
    verdict = judge(ending)
    assert (ending.cause, ending.front_code, printed) == (Cause.LOG_ONLY, -9, "")
    assert (verdict.result.outcome, verdict.result.reason) == (Outcome.INFRASTRUCTURE, "HELPER_LOG_ONLY")
    assert (verdict.blames_node, bench.events) == (True, [])
    assert time.monotonic() - begun < CLOCKS.grace_seconds


def test_a_helper_that_says_nothing_is_not_believed(bench: Bench) -> None:
    bench.behaviour = {"mute": True}
    verdict = judge(bench.run(clocks=msgspec.structs.replace(CLOCKS, prepare_seconds=1))[0])
    assert (verdict.result.outcome, verdict.blames_node) == (Outcome.INFRASTRUCTURE, True)


@pytest.mark.parametrize(
    "code",
    [
        "w.sendall(b'GET / HTTP/1.1\\r\\n\\r\\n' * 100)",
        "w.sendall(struct.pack('!cI', b'S', 0xffffffff))",
        "w.sendall(struct.pack('!cI', b'S', 70000) + bytes(70000))",
        "f(b'X', b'{}')",
        "f(b'D', b'')",
        "f(b'O', b'x')",
        "f(b'S', b'[]')",
        'f(b\'S\', b\'{"state": "started", "pid": -1}\')',
        BEGIN + "f(b'S', b'{}')",
        BEGIN + "f(b'D', b'')",
        BEGIN + "f(b'X', b'{\"exit_code\": 0}')",
        BEGIN + EXIT.replace('"signal": 0', '"signal": 9'),
        BEGIN + EXIT.replace('"exit_code": 0', '"exit_code": -1'),
        BEGIN + EXIT.replace('"exit_code": 0', '"exit_code": 1e99'),
        BEGIN + EXIT.replace('"wall_seconds": 1', '"wall_seconds": NaN'),
        BEGIN + EXIT + "f(b'X', b'{}')",
        BEGIN + EXIT + "f(b'O', b'abc')",
        BEGIN + "f(b'E', b'{\"reason\": 5}')",
        BEGIN + "f(b'E', b'{\"reason\": \"" + "R" * 100 + '", "message": ""}\')',
    ],
)
def test_a_wrapper_that_breaks_the_rules_spoils_its_own_payload_and_no_more(bench: Bench, code: str) -> None:
    bench.wrapper_does(code + "\ntime.sleep(20)\n" if "S" not in code[:6] else code)
    clocks = msgspec.structs.replace(CLOCKS, prepare_seconds=2, wall_seconds=2, collect_seconds=2)
    ending, outputs, _ = bench.run(clocks=clocks)
    assert judge(ending).result.outcome is not Outcome.OK
    assert outputs is None


def test_a_wrapper_that_floods_the_outputs_is_cut_off_at_the_limit(bench: Bench) -> None:
    bench.wrapper_does(BEGIN + EXIT + "while True: f(b'O', bytes(1 << 20))")
    ending, outputs, _ = bench.run(max_output_bytes=5 << 20)
    assert outputs is None
    assert ending.fault is not None
    assert ending.fault.reason is Reason.SANDBOX_TOO_LARGE
    assert (bench.folder / "outputs").stat().st_size <= 6 << 20


def test_a_wrapper_that_never_starts_its_payload_is_ended(bench: Bench) -> None:
    bench.wrapper_does("time.sleep(60)")
    ending, _, _ = bench.run(clocks=msgspec.structs.replace(CLOCKS, prepare_seconds=0.5))
    assert ending.cause is Cause.PREPARING


def test_a_wrapper_that_dribbles_its_outputs_is_ended(bench: Bench) -> None:
    bench.wrapper_does(BEGIN + EXIT + "while True:\n    f(b'O', b'x')\n    time.sleep(0.05)\n")
    ending, outputs, _ = bench.run(clocks=msgspec.structs.replace(CLOCKS, collect_seconds=0.5))
    assert (ending.cause, outputs) == (Cause.COLLECTING, None)


def test_a_wrapper_that_does_not_read_does_not_hang_the_pilot(bench: Bench) -> None:
    bench.wrapper_does("time.sleep(60)")
    many = {f"NAME{number}": "x" * 1000 for number in range(900)}
    clocks = msgspec.structs.replace(CLOCKS, prepare_seconds=0.5)
    assert bench.run(environment=many, clocks=clocks)[0].cause is Cause.PREPARING


def test_more_is_printed_than_kept_and_the_payload_goes_on(bench: Bench) -> None:
    ending, _, printed = bench.run("/bin/sh", "-c", "head -c 3000000 /dev/zero | tr '\\0' x")
    assert judge(ending).result.outcome is Outcome.OK
    assert printed == "x" * 100_000


def test_a_cancelled_run_leaves_no_process_and_no_descriptor(bench: Bench) -> None:
    before = len(os.listdir("/proc/self/fd"))

    async def cancelled() -> None:
        task = asyncio.ensure_future(bench._run(("/bin/sleep", "60"), CLOCKS, None, {}))
        await bench.begun.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(cancelled())
    # The two spools of the logs stay open: the bench did not get to close them.
    assert len(os.listdir("/proc/self/fd")) <= before + 2
