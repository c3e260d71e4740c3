"""signal, renew and cleanup: who may, and what they can never be made to do (checklist E5, E9)."""

import array
import json
import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from support.helper_rig import ANALYSIS, PILOT, POOL, SECOND_PILOT, HelperRig
from support.processes import monitor_of

pytestmark = pytest.mark.root
SH = os.path.realpath("/bin/sh")
NOT_YOURS = "CALLER_NOT_ALLOWED (400)"


class Living:
    """A payload that runs, with the ends of its descriptors."""

    def __init__(self, rig: HelperRig, *payload: object, proxy: Path | None = None) -> None:
        reader, writer = os.pipe()
        words = ["run", "--proxy", str(proxy or rig.proxy()), "--status-fd", str(writer), "--", *map(str, payload)]
        self.process = rig.start(words, pass_fds=(writer,))
        os.close(writer)
        assert self.process.stdout
        self.out = self.process.stdout
        self.status = os.fdopen(reader)
        start = self.status.readline()
        assert start, self.process.communicate()
        self.id = str(json.loads(start)["run_id"])
        self.account = str(json.loads(start)["account"])
        self.home = rig.prefix / "home" / self.account
        assert self.out.readline() == b"ready\n"

    @property
    def monitor(self) -> int:
        return monitor_of(self.process.pid)

    def end(self) -> int:
        code = self.process.wait(60)
        self.status.close()
        self.out.close()
        return code


@pytest.fixture(params=["off", "required"])
def spaces(rig: HelperRig, request: pytest.FixtureRequest) -> Iterator[str]:
    with rig.configured(f"\n[isolation]\nnamespaces = {request.param}"):
        yield str(request.param)


def call(rig: HelperRig, *words: str, user: str = PILOT) -> tuple[int, str]:
    process = rig.start(words, user=user)
    out, err = process.communicate(timeout=120)
    assert out == b""
    return process.returncode, err.decode()


def second_caller(text: str) -> str:
    return text + f"\n[caller {SECOND_PILOT}]\nvos = demo\naccounts = {POOL}*\n"


# signal


@pytest.mark.parametrize("name", ["TERM", "INT", "HUP", "QUIT", "USR1", "USR2", "CONT"])
def test_a_signal_reaches_the_main_process(rig: HelperRig, name: str) -> None:
    living = Living(rig, SH, "-c", f"trap 'exit 33' {name}; echo ready; while :; do sleep 0.02; done")
    before = len(rig.audit())
    assert call(rig, "signal", living.id, name) == (0, "")
    assert living.end() == 33
    order = rig.since(before)[0]
    assert (order["event"], order["signal"], order["all"]) == ("SIGNAL", getattr(signal, f"SIG{name}"), False)
    assert order["run_id"] == living.id


def test_a_signal_reaches_all_processes(rig: HelperRig, spaces: str) -> None:
    child = "trap 'echo child >> out; exit' USR1; echo up >> out; while :; do sleep 0.02; done"
    script = (
        f'({child}) & (setsid {SH} -c "{child}" &);'
        "trap 'echo main >> out' USR1; until test $(grep -c up out 2>/dev/null || echo 0) = 2; do sleep 0.02; done;"
        "echo ready; until test $(wc -l < out) = 5; do sleep 0.02; done; sort out | uniq -c; exit 3"
    )
    living = Living(rig, SH, "-c", script)
    assert call(rig, "signal", living.id, "USR1", "--all") == (0, "")
    assert living.out.read().split() == [b"2", b"child", b"1", b"main", b"2", b"up"]
    assert living.end() == 3


def test_all_processes_cannot_be_told_apart_without_a_group(rig: HelperRig) -> None:
    with rig.configured("cgroup = off"):
        living = Living(rig, SH, "-c", "echo ready; sleep 300")
        code, err = call(rig, "signal", living.id, "USR1", "--all")
        assert (code, "CGROUP_FAILED" in err) == (202, True)
        assert call(rig, "signal", living.id, "TERM")[0] == 0
        assert living.end() == 128 + signal.SIGTERM


def test_term_begins_the_grace(rig: HelperRig, spaces: str) -> None:
    with rig.configured(f"term_grace_seconds = 0\n[isolation]\nnamespaces = {spaces}"):
        living = Living(rig, SH, "-c", "trap '' TERM; echo ready; while :; do sleep 0.02; done")
        assert call(rig, "signal", living.id, "TERM") == (0, "")
        assert living.end() == 128 + signal.SIGKILL
    assert rig.left() == []


@pytest.mark.parametrize(
    "words",
    [["KILL"], ["STOP"], ["9"], ["TERM", "--everything"], ["TERM", "--all", "x"], [], ["--all"]],
    ids=lambda words: " ".join(words) or "none",
)
def test_no_other_signal_can_be_asked_for(rig: HelperRig, words: list[str]) -> None:
    code, err = call(rig, "signal", "0" * 32, *words)
    assert (code, "HELPER_USAGE (500)" in err) == (201, True)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "usage: pilotage-exec run|"),
        (["--help"], "unknown verb; usage: pilotage-exec run|"),
        (["rnu", "--proxy", "x"], "see pilotage-exec(8)"),
        (["run", "--proxy", "x", "/usr/bin/id"], "-- is missing before the command"),
        (["run", "--proxy", "x", "/usr/bin/id", "-u"], "-- is missing before the command"),
    ],
    ids=lambda words: " ".join(words) or "none",
)
def test_a_wrong_call_is_told_the_right_one(rig: HelperRig, words: list[str], told: str) -> None:
    code, err = call(rig, *words)
    assert (code, told in err) == (201, True), err


WRONG_IDS = ["0" * 32, "../jobs/" + "0" * 32, "..", "", "/", "0" * 31, "0" * 33, "A" * 32, ".", "x" * 200]


@pytest.mark.parametrize("name", WRONG_IDS)
def test_an_id_that_is_none_leads_nowhere(rig: HelperRig, name: str) -> None:
    code, err = call(rig, "signal", name, "TERM")
    assert (code, NOT_YOURS in err) == (203, True)
    code, err = call(rig, "renew", name, "--proxy", str(rig.proxy()))
    assert (code, NOT_YOURS in err) == (203, True)
    if name != WRONG_IDS[0]:
        code, err = call(rig, "cleanup", name)
        assert (code, NOT_YOURS in err) == (203, True)


def test_another_pilot_and_the_payload_are_not_heard(rig: HelperRig) -> None:
    connect = (
        "import socket, sys\ns = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)\n"
        "try: s.connect(sys.argv[1]); print('connected')\nexcept OSError as error: print(error.errno)\n"
    )
    with rig.configured(change=second_caller):
        living = Living(rig, SH, "-c", "echo ready; exec sleep 300")
        path = rig.rundir / "jobs" / living.id / "control"
        assert path.stat().st_uid == rig.pilot.pw_uid
        assert path.stat().st_mode & 0o077 == 0
        for order in (["signal", living.id, "TERM"], ["cleanup", living.id]):
            code, err = call(rig, *order, user=SECOND_PILOT)
            assert (code, NOT_YOURS in err) == (203, True)
        tried = rig.run(os.path.realpath("/usr/bin/python3"), "-c", connect, str(path))
        assert (tried.line("start")["account"], tried.out) == (living.account, "13\n")
        listed = subprocess.run(["ls", str(path.parent)], user=rig.pilot.pw_uid, capture_output=True, text=True)
        assert "Permission denied" in listed.stderr
        record = path.with_name("record")
        assert record.stat().st_mode & 0o077 == 0
        assert living.process.poll() is None
        assert call(rig, "signal", living.id, "TERM", user="root") == (0, "")
        assert living.end() == 128 + signal.SIGTERM


def test_what_is_no_order_is_dropped_and_holds_nothing_up(rig: HelperRig) -> None:
    living = Living(rig, SH, "-c", "echo ready; exec sleep 300")
    path = str(rig.rundir / "jobs" / living.id / "control")
    open_before = len(list(Path(f"/proc/{living.monitor}/fd").iterdir()))
    silent = [socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(3)]
    for client in silent:
        client.connect(path)
    orders = [
        b"",
        b"S",
        b"S\x0f\0\0x",
        b"S" * 65536,
        b"S\x09\0\0",
        b"S\x13\x01\0",
        b"X\x0f\0\0",
        b"R\0\0\0",
        b"\xa7\x0f\0\0",
    ]
    for order in orders:
        for count in (0, 1, 3):
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
                client.connect(path)
                fds = array.array("i", [2] * count)
                rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)] if count else []
                client.sendmsg([order], rights)
                client.settimeout(60)
                answer = client.recv(8192)
                # Either the socket is closed, or the order is refused; never an error of the monitor's.
                assert answer[:1] in (b"", b"R")
    for client in silent:
        client.close()
    assert rig.wait(lambda: len(list(Path(f"/proc/{living.monitor}/fd").iterdir())) <= open_before + 1)
    assert living.process.poll() is None
    assert call(rig, "signal", living.id, "TERM") == (0, "")
    assert living.end() == 128 + signal.SIGTERM


# renew


@pytest.fixture
def proxies(rig: HelperRig) -> dict[str, Path]:
    """Return proxies of the first owner, and one of the second."""
    made: dict[str, Path] = {}
    wanted: Sequence[tuple[str, int, int, tuple[str, ...]]] = (
        ("short", 0, 2, (ANALYSIS, "/demo")),
        ("long", 0, 6, (ANALYSIS, "/demo")),
        ("narrow", 0, 8, (ANALYSIS,)),
        ("wide", 0, 9, (ANALYSIS, "/demo", "/demo/Role=production")),
        ("foreign", 1, 9, (ANALYSIS, "/demo")),
    )
    for name, owner, hours, fqans in wanted:
        out = rig.prefix / "proxies" / f"renew-{name}.pem"
        if not out.exists():
            rig.grid.voms_proxy(rig.owners[owner], out, vo="demo", fqans=fqans, hours=hours)
        made[name] = rig.give(out)
    return made


def waiting(rig: HelperRig, proxy: Path) -> Living:
    script = "echo ready; trap 'cat ../proxy; exit 0' USR1; while :; do sleep 0.02; done"
    return Living(rig, SH, "-c", script, proxy=proxy)


def seen(rig: HelperRig, living: Living) -> str:
    """Return the proxy that the payload has, which ends it."""
    assert call(rig, "signal", living.id, "USR1")[0] == 0
    text = living.out.read().decode()
    assert living.end() == 0
    return text


def test_a_running_payload_gets_a_new_proxy(rig: HelperRig, spaces: str, proxies: dict[str, Path]) -> None:
    living = waiting(rig, proxies["short"])
    before = len(rig.audit())
    for name in ("long", "narrow"):
        assert call(rig, "renew", living.id, "--proxy", str(proxies[name])) == (0, "")
    file = next(living.home.glob("pilotage-*/proxy"))
    assert file.stat().st_mode & 0o777 == 0o600
    assert {path.name for path in file.parent.iterdir()} == {"proxy", "tmp", "work"}
    logged = rig.since(before)
    assert [(line["event"], line["reason"]) for line in logged] == [("RENEW", "")] * 2
    assert re.fullmatch("[0-9a-f]{64}", str(logged[0]["new_proxy_sha256"]))
    # What was given up once cannot be had again.
    code, err = call(rig, "renew", living.id, "--proxy", str(proxies["wide"]))
    assert (code, "RENEWAL_REFUSED (522)" in err) == (203, True)
    assert seen(rig, living) == proxies["narrow"].read_text()
    assert rig.left() == []


@pytest.mark.parametrize(
    ("name", "why"),
    [("wide", "an attribute"), ("foreign", "another owner"), ("short", "not end later")],
)
def test_a_proxy_that_is_no_successor_is_refused(rig: HelperRig, proxies: dict[str, Path], name: str, why: str) -> None:
    living = waiting(rig, proxies["short"])
    before = len(rig.audit())
    code, err = call(rig, "renew", living.id, "--proxy", str(proxies[name]))
    assert (code, "RENEWAL_REFUSED (522)" in err, why in err) == (203, True, True)
    assert rig.since(before)[0]["reason"] == "RENEWAL_REFUSED"
    assert seen(rig, living) == proxies["short"].read_text()


def test_attributes_that_end_first_are_renewed_although_the_proxy_ends_no_later(rig: HelperRig) -> None:
    """A proxy and its attributes, and hours for which they are good; the owner's own proxy bounds the former alone."""
    made = {}
    for hours, voms_hours in ((12, 2), (11, 6), (11, 3), (10, 10), (13, 1)):
        out = rig.prefix / "proxies" / f"renew-{hours}-{voms_hours}.pem"
        rig.grid.voms_proxy(
            rig.owners[0], out, vo="demo", fqans=(ANALYSIS, "/demo"), hours=hours, voms_hours=voms_hours
        )
        made[hours, voms_hours] = rig.give(out)
    plain = rig.plain_proxy(rig.owners[0], "renew-plain-11.pem", hours=11)
    with rig.configured(change=lambda text: text.replace("vos = demo\n", "vos = demo\nwithout_vo = yes\n")):
        living = waiting(rig, made[12, 2])
        # Fewer, which is allowed, are none that end later.
        steps = [(plain, 203), (made[11, 6], 0), (made[11, 3], 203), (made[12, 2], 0), (made[10, 10], 0)]
        for proxy, expected in [*steps, (made[13, 1], 0)]:
            code, err = call(rig, "renew", living.id, "--proxy", str(proxy))
            assert (code, "not end later" in err) == (expected, expected != 0), (proxy, err)
        assert seen(rig, living) == made[13, 1].read_text()


def test_a_new_proxy_is_verified_like_the_first(rig: HelperRig, proxies: dict[str, Path]) -> None:
    living = waiting(rig, proxies["short"])
    plain = rig.plain_proxy(rig.owners[0], "renew-plain.pem")
    code, err = call(rig, "renew", living.id, "--proxy", str(plain))
    assert (code, "CALLER_VO_BOUNDS" in err) == (203, True)
    broken = rig.prefix / "proxies" / "renew-broken.pem"
    broken.write_text(proxies["long"].read_text().replace("A", "B", 5))
    code, err = call(rig, "renew", living.id, "--proxy", str(rig.give(broken)))
    assert code == 203
    for path in ("/etc/shadow", "/dev/zero", "/nonexistent", str(rig.prefix)):
        code, err = call(rig, "renew", living.id, "--proxy", path)
        assert (code, "PROXY_FILE_UNUSABLE" in err) == (201, True)
    assert seen(rig, living) == proxies["short"].read_text()


def test_what_was_limited_stays_limited(rig: HelperRig) -> None:
    owner = rig.owners[0]
    made = {
        name: rig.give(rig.grid.plain_proxy(owner, rig.prefix / "proxies" / f"renew-{name}.pem", hours=h, limited=lim))
        for name, h, lim in (("limited", 2, True), ("limited-later", 6, True), ("full-later", 7, False))
    }
    with (
        rig.mapped(f'"{owner.dn}" .{POOL}\n'),
        rig.configured(change=lambda text: text.replace("vos = demo\n", "without_vo = yes\n")),
    ):
        living = waiting(rig, made["limited"])
        code, err = call(rig, "renew", living.id, "--proxy", str(made["full-later"]))
        assert (code, "RENEWAL_REFUSED" in err, "not limited" in err) == (203, True, True)
        assert call(rig, "renew", living.id, "--proxy", str(made["limited-later"])) == (0, "")
        assert seen(rig, living) == made["limited-later"].read_text()


def test_a_proxy_without_a_vo_is_renewed_by_its_like_alone(rig: HelperRig, proxies: dict[str, Path]) -> None:
    owner = rig.owners[0]
    first, second = (rig.plain_proxy(owner, f"renew-plain-{hours}.pem", hours=hours) for hours in (2, 6))
    with (
        rig.mapped(f'"{owner.dn}" .{POOL}\n"{ANALYSIS}" .{POOL}\n'),
        rig.configured(change=lambda text: text.replace("vos = demo\n", "vos = demo\nwithout_vo = yes\n")),
    ):
        living = waiting(rig, first)
        # Attributes that the payload never had cannot come by a renewal.
        code, err = call(rig, "renew", living.id, "--proxy", str(proxies["long"]))
        assert (code, "RENEWAL_REFUSED" in err, "an attribute" in err) == (203, True, True)
        assert call(rig, "renew", living.id, "--proxy", str(second)) == (0, "")
        assert seen(rig, living) == second.read_text()


def test_bytes_that_could_still_change_are_not_read(rig: HelperRig, proxies: dict[str, Path]) -> None:
    living = waiting(rig, proxies["short"])
    path = str(rig.rundir / "jobs" / living.id / "control")
    reader, writer = os.pipe()
    unsealed = os.memfd_create("proxy", os.MFD_ALLOW_SEALING)
    os.write(unsealed, proxies["long"].read_bytes())
    for fd in (unsealed, reader, os.open(proxies["long"], os.O_RDONLY)):
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
            client.connect(path)
            client.sendmsg([b"R\0\0\0"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))])
            client.settimeout(60)
            answer = client.recv(8192)
        assert b"not a sealed memory file" in answer
        os.close(fd)
    os.close(writer)
    assert seen(rig, living) == proxies["short"].read_text()


def test_a_payload_cannot_lead_a_renewal_astray(rig: HelperRig, proxies: dict[str, Path]) -> None:
    victim = rig.prefix / "home" / "victim"
    victim.write_text("kept")
    script = (
        f"rm ../proxy; ln -s {victim} ../proxy; ln -s {victim} ../proxy.new; echo ready;"
        "trap 'cat ../proxy; exit 0' USR1; while :; do sleep 0.02; done"
    )
    living = Living(rig, SH, "-c", script, proxy=proxies["short"])
    assert call(rig, "renew", living.id, "--proxy", str(proxies["long"])) == (0, "")
    assert seen(rig, living) == proxies["long"].read_text()
    script = (
        "mv $PILOTAGE_RUN_DIR $HOME/moved; mkdir $HOME/other; ln -s $HOME/other $PILOTAGE_RUN_DIR; echo ready; sleep 99"
    )
    living = Living(rig, SH, "-c", script, proxy=proxies["short"])
    code, err = call(rig, "renew", living.id, "--proxy", str(proxies["long"]))
    assert (code, "TARGET_PROXY_UNUSABLE" in err) == (201, True)
    assert list((living.home / "other").iterdir()) == []
    assert call(rig, "signal", living.id, "TERM")[0] == 0
    living.end()
    assert victim.read_text() == "kept"
    subprocess.run(["rm", "-rf", str(living.home / "moved"), str(living.home / "other")], check=True)
    assert rig.left() == []


# cleanup


@pytest.mark.parametrize("cgroup", ["required", "off"])
@pytest.mark.parametrize("who", [PILOT, "root"])
@pytest.mark.parametrize("named", [True, False], ids=["named", "all"])
def test_what_a_dead_monitor_left_is_killed_and_removed(rig: HelperRig, cgroup: str, who: str, *, named: bool) -> None:
    with rig.configured(f"cgroup = {cgroup}"):
        living = Living(rig, rig.attack("hydra"), "heads", 4)
        assert rig.wait(lambda: len(rig.processes()) >= 5)
        record = (rig.rundir / "jobs" / living.id / "record").read_text()
        assert not re.search(rf"\b({living.monitor}|{living.process.pid})\b", record)
        os.kill(living.monitor, signal.SIGKILL)
        assert living.end() == 202
        assert rig.wait(lambda: len(rig.processes()) >= 4)
        before = len(rig.audit())
        words = ["cleanup", living.id] if named else ["cleanup"]
        assert call(rig, *words, user=who) == (0, "")
        assert (rig.processes(), rig.left()) == ([], [])
        logged = [line for line in rig.since(before) if line["event"] == "CLEANUP"]
        assert [(line["run_id"], line["complete"], line["verb"]) for line in logged] == [(living.id, True, "cleanup")]
        assert call(rig, *words, user=who) == (0, "")
        assert len(rig.since(before)) == 1


def test_cleaning_does_not_touch_the_living_nor_what_is_anothers(rig: HelperRig) -> None:
    with rig.configured("cgroup = required", change=second_caller):
        living = Living(rig, SH, "-c", "echo ready; exec sleep 300")
        dead = Living(rig, rig.attack("hydra"), "heads", 2)
        os.kill(dead.monitor, signal.SIGKILL)
        assert dead.end() == 202
        code, err = call(rig, "cleanup", dead.id, user=SECOND_PILOT)
        assert (code, NOT_YOURS in err) == (203, True)
        assert call(rig, "cleanup", user=SECOND_PILOT) == (0, "")
        assert (rig.rundir / "jobs" / dead.id).exists()
        code, err = call(rig, "cleanup", living.id)
        assert (code, "ACCOUNT_IN_USE" in err) == (203, True)
        assert call(rig, "cleanup") == (0, "")
        assert not (rig.rundir / "jobs" / dead.id).exists()
        # The same account's living run goes on, and the dead one's orphans are gone.
        assert living.process.poll() is None
        assert len(rig.processes()) == 1
        assert call(rig, "signal", living.id, "TERM")[0] == 0
        living.end()
    assert rig.left() == []


def test_nobody_else_can_plant_a_record(rig: HelperRig) -> None:
    assert rig.run("/usr/bin/true").code == 0
    for folder in (rig.rundir, rig.rundir / "jobs", rig.rundir / "accounts"):
        assert folder.stat().st_uid == 0
        assert folder.stat().st_mode & 0o022 == 0
    code, err = call(rig, "cleanup", user="nobody")
    assert (code, NOT_YOURS in err) == (203, True)


def test_a_record_that_was_never_finished_does_no_harm(rig: HelperRig) -> None:
    name = "0123456789abcdef" * 2
    assert rig.run("/usr/bin/true").code == 0
    folder = rig.rundir / "jobs" / name
    folder.mkdir(mode=0o700)
    for text in ("", "[run]\nowner = x\n", "\0\xff", "[run]\nuid = 0\ncaller_uid = 0\ncgroup0 = /sys/fs/cgroup\n"):
        (folder / "record").write_text(text)
        assert call(rig, "cleanup", name, user="root")[0] == 0
        assert call(rig, "cleanup", user="root")[0] == 0
    (folder / "record").unlink()
    folder.rmdir()


def test_cleaning_takes_no_options(rig: HelperRig) -> None:
    for words in (["cleanup", "a", "b"], ["cleanup", "--proxy", "x"]):
        code, err = call(rig, *words)
        assert (code, "HELPER_USAGE" in err) == (201, True)
