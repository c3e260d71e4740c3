"""Whom a run becomes: what no map line, database entry or mapper can make of it (checklist B2-B4)."""

import contextlib
import os
import platform
import pwd
import re
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.helper_rig import ANALYSIS, POOL, ROOT, VERIFIER, HelperRig, Outcome
from support.lease_rig import Question

pytestmark = pytest.mark.root
BIG = 3_000_000_000
HESIOD = Path(f"/lib/{platform.machine()}-linux-gnu/libnss_hesiod.so.2")


@pytest.mark.parametrize(
    "word",
    [
        *("-1", "4294967295", "4294967294", "4294967301", "2147483648", "0", "00", "-0", "+0", "0x0", "+5", "1e3"),
        *("root", "#0", "#-1", ".", "..", "./root", "/root", "root:", "*", "?", "%72oot", "\\162oot", "ro ot", ""),
    ],
)
def test_no_word_of_a_map_line_is_taken_for_a_number_or_for_root(rig: HelperRig, word: str) -> None:
    with rig.mapped(f'"{ANALYSIS}" {word}\n'):
        done = rig.run("/usr/bin/id")
    assert (done.code, done.out) == (203, ""), done
    assert done.reason in {
        "MAP_FILE_MALFORMED",
        "ACCOUNT_FORBIDDEN",
        "ACCOUNT_UNKNOWN",
        "POOL_EXHAUSTED",
        "CALLER_ACCOUNT_BOUNDS",
    }


SWITCH = "passwd: files hesiod\ngroup: files hesiod\n"


@contextlib.contextmanager
def bad_name_service(rig: HelperRig, home: Path, text: str = SWITCH) -> Iterator[list[str]]:
    """A place with another name service; yields the words that bring a command there, the last three as the pilot."""
    module, switch = rig.prefix / "nss.so", rig.prefix / "nsswitch.conf"
    source = ROOT / "tests" / "attack" / "bad_nss.c"
    words = ["gcc", "-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror", "-D_GNU_SOURCE", "-shared", "-fPIC"]
    subprocess.run([*words, f'-DHOME="{home}"', "-o", str(module), str(source)], check=True, timeout=120)
    switch.write_text(text)
    script = f"mount --bind {switch} /etc/nsswitch.conf && mount --bind {module} {HESIOD} && echo up && read go"
    keeper = subprocess.Popen(
        ["unshare", "--mount", "/bin/sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert keeper.stdout
    assert keeper.stdin
    try:
        if keeper.stdout.readline() != "up\n":
            pytest.skip("this machine lets nobody mount over a file")
        ids = [f"--reuid={rig.pilot.pw_uid}", f"--regid={rig.pilot.pw_gid}", "--clear-groups"]
        yield ["nsenter", "-t", str(keeper.pid), "-m", "setpriv", *ids]
    finally:
        keeper.stdin.close()
        keeper.wait(60)


ANSWERS = {
    "unheardof": (203, "ACCOUNT_UNKNOWN"),
    "eio": (202, "ACCOUNT_LOOKUP"),
    "emfile": (202, "ACCOUNT_LOOKUP"),
    "endless": (202, "ACCOUNT_LOOKUP"),
    "other": (203, "ACCOUNT_UNKNOWN"),
    "zero": (203, "ACCOUNT_FORBIDDEN"),
    "minus1": (203, "ACCOUNT_FORBIDDEN"),
    "minus2": (203, "ACCOUNT_FORBIDDEN"),
    "nobody": (203, "ACCOUNT_FORBIDDEN"),
    "low": (203, "ACCOUNT_FORBIDDEN"),
    "half": (203, "HOME_UNUSABLE"),
    "group0": (203, "GROUP_FORBIDDEN"),
    "big": (0, ""),
    "erange": (0, ""),
}


def test_every_answer_of_a_bad_name_service_is_judged(rig: HelperRig) -> None:
    if not HESIOD.exists():
        pytest.skip("this C library has no name service module that nobody uses")
    home = rig.prefix / "home" / "big"
    home.mkdir(mode=0o700)
    os.chown(home, BIG, BIG)
    done: dict[str, Outcome] = {}
    try:
        with bad_name_service(rig, home) as there:
            for name in ANSWERS:
                with rig.mapped(f'"{ANALYSIS}" {POOL}-{name}\n'):
                    done[name] = rig.run("/usr/bin/id", "-u", user="root", program=there)
    finally:
        shutil.rmtree(home)
    assert {name: (outcome.code, outcome.reason) for name, outcome in done.items()} == ANSWERS
    # A uid above 2^31 is an account like any other; everybody else has run nothing.
    assert {name: outcome.out for name, outcome in done.items() if outcome.out} == {
        "big": f"{BIG}\n",
        "erange": f"{BIG}\n",
    }


def test_the_databases_modules_and_no_others_are_loaded_before_the_question(rig: HelperRig) -> None:
    if not HESIOD.exists():
        pytest.skip("this C library has no name service module that nobody uses")
    text = (
        "hosts: files compat\npasswd: files [NOTFOUND=return !UNAVAIL=continue] ../x # compat\ngroup: nosuch hesiod\n"
    )
    with bad_name_service(rig, rig.prefix, text) as there:
        question = Question(rig.mapper, "/CN=module", program=there[:4])
        proc = Path("/proc") / str(question.process.pid)
        end = time.monotonic() + 60
        # It reads descriptor 0, and so has done everything that comes before.
        while (proc / "exe").resolve() != rig.mapper or not (proc / "syscall").read_text().startswith("0 0x0 "):
            assert time.monotonic() < end
            select.select([], [], [], 0.002)
        found = re.findall(r"libnss_\w+", (proc / "maps").read_text())
        question.send()
        answer = question.answer()
    assert set(found) == {"libnss_hesiod"}
    assert answer
    assert answer.reason == ""
    (rig.gridmapdir / answer.lease).unlink()


def test_a_caller_may_have_a_large_uid(rig: HelperRig) -> None:
    caller = BIG + 1
    proxy = rig.prefix / "proxies" / "large"
    shutil.copy(rig.proxy(), proxy)
    os.chown(proxy, caller, caller)
    proxy.chmod(0o600)
    ids = ["setpriv", f"--reuid={caller}", f"--regid={caller}", "--clear-groups"]
    section = f"\n[caller {caller}]\nvos = demo\naccounts = {POOL}*\n"
    assert rig.run("/usr/bin/id", "-u", user="root", program=ids, proxy=proxy).reason == "CALLER_NOT_ALLOWED"
    with rig.configured(change=lambda text: text + section):
        before = len(rig.audit())
        done = rig.run("/usr/bin/id", "-u", user="root", program=ids, proxy=proxy)
        assert (done.code, int(done.out) in rig.uids) == (0, True)
        assert {line["caller_uid"] for line in rig.since(before)} == {caller}


@contextlib.contextmanager
def taken_over(rig: HelperRig) -> Iterator[None]:
    kept = rig.mapper.with_suffix(".kept")
    attack = rig.attack("bad_mapper")
    rig.mapper.rename(kept)
    try:
        shutil.copyfile(attack, rig.mapper)
        rig.mapper.chmod(0o755)
        yield
    finally:
        kept.replace(rig.mapper)


def test_a_mapper_that_was_taken_over_cannot_name_a_forbidden_account(rig: HelperRig) -> None:
    verifier = pwd.getpwnam(VERIFIER)
    good = f"account={POOL}01,home={rig.prefix}/home/{POOL}01"
    lies = [
        f"uid=0,{good}",
        f"uid=999,{good}",
        f"uid=65534,{good}",
        f"uid=4294967295,{good}",
        f"uid=4294967294,{good}",
        f"uid={rig.pilot.pw_uid},{good}",
        f"uid={verifier.pw_uid},{good}",
        f"gid=0,{good}",
        f"gid=999,{good}",
        f"gid={verifier.pw_gid},{good}",
        f"group=0,{good}",
        f"group=27,{good}",
        f"groups=65,{good}",
        f"groups=4294967295,{good}",
        "account=root,home=/root",
        "account=somebody,home=/tmp",
        f"account=../{POOL}01,home=/tmp",
        f"account={POOL}01,home=tmp",
        "home=/tmp",
        f"reason=200,{good}",
        f"reason=1,{good}",
        f"reason=412,{good}",
    ]
    before = len(rig.audit())
    with taken_over(rig):
        # One that is possible leads only to what the account itself may do: its home is not there.
        assert rig.run(f"/account={POOL}01,home=/nonexistent/home").reason == "HOME_UNUSABLE"
        done = {lie: rig.run(f"/{lie}") for lie in lies}
    assert {(outcome.code, outcome.reason, outcome.out) for outcome in done.values()} == {(203, "MAPPER_RECORD", "")}
    lines = rig.since(before)
    assert [line["event"] for line in lines] == ["START", "END"] + ["REFUSED"] * len(lies)
    assert rig.left() == []


def test_whatever_the_proxy_says_the_pilot_gets_no_other_account(rig: HelperRig) -> None:
    """A pilot that holds every proxy of the grid, and a map that would give anything away."""
    for name in ("root", "bin", "nobody", VERIFIER, rig.pilot.pw_name):
        text = "".join(f'"{key}" {name}\n' for key in ("/*", "/demo/*", ANALYSIS, "/demo", rig.owners[0].dn))
        with rig.mapped(text):
            for owner in range(3):
                for fqans in ((ANALYSIS,), ("/demo",)):
                    done = rig.run("/usr/bin/id", proxy=rig.proxy(owner, fqans=fqans))
                    assert (done.code, done.out) == (203, "")
                    assert done.reason == "ACCOUNT_FORBIDDEN"
