"""A verifier that a hostile proxy has killed or taken over (checklist C9, C10, C13)."""

import concurrent.futures
import contextlib
import os
import pwd
import re
import shutil
import signal
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pilotage.reasons import Reason
from support.helper_rig import ROOT, VERIFIER, HelperRig, Outcome
from support.processes import children, monitor_of, state

pytestmark = pytest.mark.root
SH = os.path.realpath("/bin/sh")
REQUIRE_KEY, REQUIRE_PROXY = 0x02, 0x04
# Where the fields of struct pil_record begin (pilotage/record.h, pilotage/verify.h).
WHO = 64
FIELDS = {
    "magic": 0,
    "version": 8,
    "size": 12,
    "nonce": 16,
    "digest": 32,
    "reason": WHO,
    "flags": WHO + 4,
    "depth": WHO + 8,
    "fqan_count": WHO + 12,
    "dn": WHO + 104,
    "issuer": WHO + 104 + 1024,
    "vo": WHO + 104 + 2048,
    "detail": WHO + 104 + 2048 + 256,
    "fqan": WHO + 104 + 2048 + 512,
}
TAIL = WHO + 104 + 2048 + 512 + 256 * 256
SIZE = TAIL + 8


def good_record(rig: HelperRig) -> bytes:
    """What the real verifier says of the first owner's proxy."""
    pem = rig.proxy().read_bytes()
    policy = REQUIRE_KEY | REQUIRE_PROXY
    head = struct.pack("<8sII16sqiIqq", b"PILVRFY1", 1, len(pem), bytes(16), int(time.time()), 300, policy, 0, 0)
    words = [str(rig.verifier), str(rig.grid.ca_dir), str(rig.grid.voms_dir), "-"]
    record = subprocess.run(words, input=head + pem, capture_output=True, check=True, timeout=120).stdout
    assert (len(record), record[:8], record[-8:]) == (SIZE, b"PILVRFY1", b"PILVRFY1")
    assert record[WHO : WHO + 4] == bytes(4)
    assert record[FIELDS["dn"] :].startswith(rig.owners[0].dn.encode() + b"\0")
    assert record[FIELDS["fqan"] :].startswith(b"/demo/Role=analysis\0")
    return record


@contextlib.contextmanager
def taken_over(rig: HelperRig) -> Iterator[bytes]:
    """Put the attacker's program in the verifier's place; yields the record that it begins with."""
    record, kept = good_record(rig), rig.verifier.with_suffix(".kept")
    attack = rig.attack("bad_verifier")
    rig.verifier.rename(kept)
    beside = rig.verifier.with_name("record")
    try:
        shutil.copyfile(attack, rig.verifier)
        rig.verifier.chmod(0o755)
        beside.write_bytes(record)
        beside.chmod(0o644)
        yield record
    finally:
        kept.replace(rig.verifier)
        beside.unlink()


def ordered(rig: HelperRig, order: str) -> Path:
    """Return a proxy file that tells the attacker's verifier what to do."""
    path = rig.prefix / "proxies" / f"attack-{re.sub('[^a-z0-9]', '-', order)}"
    path.write_bytes(rig.proxy().read_bytes() + f"ATTACK {order}\n".encode())
    return rig.give(path)


def of_verifier() -> list[int]:
    """The living processes of the verifier's account."""
    uid = pwd.getpwnam(VERIFIER).pw_uid
    found = []
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if folder.name.isdigit() and os.stat(folder).st_uid == uid and state(int(folder.name)) not in "ZX":
                found.append(int(folder.name))
    return found


DEATHS = {
    "cpu": {"VERIFIER_FAILED"},
    "memory": {"VERIFIER_FAILED"},
    "seccomp": {"VERIFIER_FAILED"},
    "segv": {"VERIFIER_FAILED"},
    "abort": {"VERIFIER_FAILED"},
    "hang": {"VERIFIER_FAILED"},
    "stop": {"VERIFIER_FAILED"},
    "fork": {"VERIFIER_FAILED"},
    # One that says too much is cut off, and may die of that first.
    "flood": {"VERIFIER_FAILED", "VERIFIER_RECORD"},
    "late": {"VERIFIER_RECORD"},
    "cut 0": {"VERIFIER_RECORD"},
    "cut 1": {"VERIFIER_RECORD"},
    f"cut {SIZE - 1}": {"VERIFIER_RECORD"},
}


def test_a_verifier_that_dies_in_any_way_is_a_refusal_and_leaves_nothing(rig: HelperRig) -> None:
    before = len(rig.audit())
    with taken_over(rig):
        proxies = {order: ordered(rig, order) for order in DEATHS}
        assert rig.run("/usr/bin/true", proxy=ordered(rig, "nothing")).code == 0, "its good record is believed"
        with concurrent.futures.ThreadPoolExecutor(len(DEATHS)) as pool:
            start = time.monotonic()
            runs = {order: pool.submit(rig.run, "/usr/bin/id", proxy=path) for order, path in proxies.items()}
            done = {order: run.result() for order, run in runs.items()}
            assert time.monotonic() - start < 15
    for order, outcome in done.items():
        assert (outcome.code, outcome.out) == (203, ""), order
        assert outcome.reason in DEATHS[order], order
    lines = [line for line in rig.since(before) if line["event"] == "REFUSED"]
    assert len(lines) == len(DEATHS)
    said = {line["message"] for line in lines if line["reason"] == "VERIFIER_FAILED"}
    assert said == {"the verifier died or gave no answer within 5 s"}
    assert rig.wait(lambda: of_verifier() == [])
    assert rig.left() == []


def test_a_running_payload_outlives_a_verifier_that_dies_at_its_renewal(rig: HelperRig) -> None:
    process = rig.start(["run", "--proxy", str(rig.proxy()), "--", SH, "-c", "echo ready; exec sleep 300"])
    assert process.stdout
    assert process.stdout.readline() == b"ready\n"
    monitor = monitor_of(process.pid)
    before = len(rig.audit())
    run_id = next(path.name for path in (rig.rundir / "jobs").iterdir())
    with taken_over(rig):
        for order in ("cpu", "seccomp", "segv", "late"):
            renewal = rig.start(["renew", run_id, "--proxy", str(ordered(rig, order))])
            _, err = renewal.communicate(timeout=120)
            assert renewal.returncode == 203, order
            assert b"VERIFIER_" in err
            assert monitor_of(process.pid) == monitor
            assert rig.wait(lambda: [pid for pid in children(monitor) if state(pid) == "Z"] == [])
    assert {line["reason"] for line in rig.since(before)} == {"VERIFIER_FAILED", "VERIFIER_RECORD"}
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 128 + signal.SIGTERM
    assert rig.left() == []


def lies(record: bytes) -> list[str]:
    """Orders to change one byte in every field, where no other value can mean a possible owner."""
    first = len("/demo/Role=analysis")
    places = {
        *range(FIELDS["magic"], FIELDS["magic"] + 8, 3),
        *(FIELDS["version"] + n for n in (0, 3)),
        *(FIELDS["size"] + n for n in (0, 2)),
        *(FIELDS["nonce"] + n for n in (0, 15)),
        *(FIELDS["digest"] + n for n in (0, 31)),
        *(FIELDS["reason"] + n for n in (0, 1, 3)),
        *(FIELDS["flags"] + n for n in (1, 3)),
        *(FIELDS["depth"] + n for n in (1, 3)),
        *(FIELDS["fqan_count"] + n for n in (0, 1, 3)),
        FIELDS["dn"],
        FIELDS["dn"] + 1023,
        FIELDS["issuer"] + 1023,
        FIELDS["vo"],
        FIELDS["vo"] + 255,
        FIELDS["detail"] + 255,
        FIELDS["fqan"],
        FIELDS["fqan"] + first + 5,
        FIELDS["fqan"] + 256,
        TAIL - 1,
        *range(TAIL, TAIL + 8, 3),
    }
    # By bits, for nonce and digest are of the run: a byte that is named could be the right one.
    flips = [f"flip {place} {bits}" for place in sorted(places) for bits in (0x01, 0x80)]
    # In the middle of a name: its end, a line feed, ESC, a byte above ASCII.
    named = [(FIELDS["dn"] + 3, byte) for byte in (0x00, 0x0A, 0x1B, 0x7F, 0xC3)]
    named += [(FIELDS["fqan"] + 7, byte) for byte in (0x0A, 0x22 ^ 0x80, 0x1B)]
    assert all(record[place] != byte for place, byte in named)
    return flips + [f"lie {place} {byte}" for place, byte in named]


def test_no_byte_of_a_lie_is_believed(rig: HelperRig) -> None:
    """The whole way; each bit of the record is tried by helper_c/tests/test_base_record.c."""
    with taken_over(rig) as record:
        proxies = {order: ordered(rig, order) for order in lies(record)}

        def one(path: Path) -> Outcome:
            return rig.run("/usr/bin/id", proxy=path)

        with concurrent.futures.ThreadPoolExecutor(6) as pool:
            done = dict(zip(proxies, pool.map(one, proxies.values()), strict=True))
    for path in proxies.values():
        path.unlink()
    assert len(done) > 70
    believed = {lie: outcome for lie, outcome in done.items() if (outcome.code, outcome.out) != (203, "")}
    assert believed == {}
    # A number that is a reason is one; everything else is a record that is not sound.
    assert {outcome.reason for outcome in done.values()} == {"VERIFIER_RECORD"}


def test_a_lie_about_the_owner_stays_within_the_callers_bounds(rig: HelperRig) -> None:
    """What a hijacked verifier can still do, and what bounds it (SECURITY.md)."""
    with taken_over(rig):
        other_vo = ordered(rig, f"lie {FIELDS['vo']} {ord('x')}")
        assert rig.run("/usr/bin/id", proxy=other_vo).reason == "VERIFIER_RECORD"
        other_owner = ordered(rig, f"lie {FIELDS['dn'] + len(rig.owners[0].dn) - 1} {ord('9')}")
        with rig.mapped(f'"{rig.owners[0].dn}" root\n"{rig.owners[0].dn[:-1]}9" root\n'):
            assert rig.run("/usr/bin/id", proxy=other_owner).reason == "ACCOUNT_FORBIDDEN"
        done = rig.run("/usr/bin/id", proxy=other_owner)
        if done.code == 0:
            assert str(done.line("start")["account"]) in rig.pools
    rig.release_all()


def test_a_refusal_whose_bits_have_flipped_permits_nothing(rig: HelperRig) -> None:
    """No one value is a permission (C13): what goes on is a whole identity, and a refusal has none to go on with."""
    flipped = [0, *(Reason.PROXY_EXPIRED.value ^ 1 << bit for bit in range(32))]
    with taken_over(rig):
        assert (
            rig.run("/usr/bin/id", proxy=ordered(rig, f"refuse {Reason.PROXY_EXPIRED.value}")).reason == "PROXY_EXPIRED"
        )
        with concurrent.futures.ThreadPoolExecutor(6) as pool:
            proxies = [ordered(rig, f"refuse {number}") for number in flipped]
            done = list(pool.map(lambda path: rig.run("/usr/bin/id", proxy=path), proxies))
    assert {(outcome.code, outcome.out) for outcome in done} == {(203, "")}
    assert done[0].reason == "VERIFIER_RECORD"
    known = {Reason(number).name for number in flipped if number in {reason.value for reason in Reason}}
    assert {outcome.reason for outcome in done} <= {"VERIFIER_RECORD", *known}


def test_a_permission_is_many_bits_away_from_everything_else_and_asked_for_last() -> None:
    """Two words, each set in one place after its question is answered, and both compared before anything is done."""
    keep = ROOT / "helper_c" / "src" / "keep"
    found = dict(re.findall(r"#define (PERMIT_\w+)\s+(0x[0-9a-f]{8})u", (keep / "run.h").read_text()))
    assert set(found) == {"PERMIT_OWNER", "PERMIT_ACCOUNT"}
    values = [0, 0xFFFFFFFF, *(int(value, 16) for value in found.values())]
    assert min((a ^ b).bit_count() for a in values for b in values if a != b) >= 12
    uses: dict[str, list[tuple[str, str]]] = {name: [] for name in found}
    for path in sorted(keep.glob("*.c")):
        for name in found:
            uses[name] += [(path.name, line.strip()) for line in path.read_text().splitlines() if name in line]
    for name, field in (("PERMIT_OWNER", "owner_decision"), ("PERMIT_ACCOUNT", "account_decision")):
        given, asked = uses[name]
        assert given == ("owner.c", f"run->{field} = {name};")
        assert asked[0] == "payload.c"
        assert f"run->{field} == {name}" in asked[1]
    body = (keep / "payload.c").read_text()
    payload = body[body.index("\npayload(const struct run") : body.index("\npayload_clone(")]
    order = [payload.index(words) for words in ("settle(run)", "PERMIT_OWNER", "rundir_enter(", "execute(run")]
    assert order == sorted(order)


def test_what_is_permitted_is_compared_with_one_value() -> None:
    """Default deny: no test of a reason for anything but the one constant, and no switch that falls into permission."""
    sources = [path for name in ("exec", "keep") for path in (ROOT / "helper_c" / "src" / name).glob("*.c")]
    for path in sources:
        text = path.read_text()
        assert not re.search(r"if \(!?reason\)|!reason\b|reason (==|!=|<|>) 0", text), path.name
