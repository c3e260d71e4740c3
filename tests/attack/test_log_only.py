"""Mode log-only: everything of a run but the switch; and nothing leads there but one word of the site's file."""

import concurrent.futures
import errno
import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.helper_rig import ANALYSIS, OURS, PILOT, HelperRig, Outcome
from support.injection import Injector
from support.pace import soon

pytestmark = pytest.mark.root
SH = os.path.realpath("/bin/sh")
MODE = "mode = log-only"
ASK = ("/usr/bin/id", "-u")
ERRORS = (errno.ENOSYS, errno.EPERM, errno.EAGAIN, errno.EMFILE)


@pytest.fixture(autouse=True)
def _alone(rig: HelperRig) -> Iterator[None]:
    yield
    rig.end_calls()


class Installed:
    """One way to install the mode."""

    def __init__(self, rig: HelperRig, *, setuid: bool) -> None:
        self.rig, self.setuid = rig, setuid
        self.log = rig.log if setuid else rig.prefix / "log" / "of-the-pilot.jsonl"

    def audit(self) -> list[dict[str, object]]:
        """Every line of the audit log; each must be valid JSON."""
        return [json.loads(line) for line in self.log.read_text().splitlines()] if self.log.exists() else []


@pytest.fixture(params=["setuid", "plain"])
def installed(rig: HelperRig, request: pytest.FixtureRequest) -> Iterator[Installed]:
    """The mode with the set-user-id bit and without, where the caller may append to the log itself."""
    how = Installed(rig, setuid=request.param == "setuid")
    if not how.setuid:
        how.log.touch()
        os.chown(how.log, 0, rig.pilot.pw_gid)
        how.log.chmod(0o660)
        rig.program.chmod(0o755)
    try:
        with rig.configured(MODE, change=lambda text: text.replace(str(rig.log), str(how.log))):
            yield how
    finally:
        rig.program.chmod(0o4711)
        if not how.setuid:
            how.log.unlink(missing_ok=True)


def leases(rig: HelperRig) -> dict[str, tuple[int, float]]:
    return {path.name: (path.stat().st_nlink, path.stat().st_mtime) for path in rig.gridmapdir.iterdir()}


def of_pilot(rig: HelperRig) -> list[int]:
    """The living processes of the pilot's account."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdigit() and os.stat(folder).st_uid == rig.pilot.pw_uid:
                state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
                found += [int(folder.name)] if state != "Z" else []
        except OSError:
            continue
    return found


def test_the_payload_runs_as_the_caller_and_everything_else_is_done(installed: Installed) -> None:
    rig = installed.rig
    rig.release_all()
    before, taken = len(installed.audit()), leases(rig)
    done = rig.run(SH, "-c", "id -u; id -g; pwd; cat ../proxy | wc -c", options=["--job-id", "j-1"])
    assert (done.code, done.err) == (0, "")
    uid, gid, work, size = done.out.split()
    assert (int(uid), int(gid), int(size)) == (rig.pilot.pw_uid, rig.pilot.pw_gid, rig.proxy().stat().st_size)
    status_start, status_end = done.line("start"), done.line("end")
    assert work == f"{rig.pilot.pw_dir}/pilotage-{status_start['run_id']}/work"
    start, end = installed.audit()[before:]
    assert [line["event"] for line in (start, end)] == ["START", "END"]
    for line in (status_start, status_end, start, end):
        assert line["mode"] == "log-only"
        assert line["account"] == rig.pools[0]
    assert (start["dn"], start["fqan"], start["caller"]) == (rig.owners[0].dn, ANALYSIS, PILOT)
    assert (end["exit_code"], end["job_id"], end["reason"]) == (0, "j-1", "")
    # It names the account that a switch would have taken, and takes nothing.
    assert leases(rig) == taken
    assert (rig.left(), rig.processes()) == ([], [])


def test_a_switch_says_that_it_is_one_by_saying_nothing(rig: HelperRig) -> None:
    done = rig.run("/usr/bin/id")
    assert all("mode" not in line for line in (*done.status, *rig.audit()[-2:]))


REFUSED = {
    "no mapping": "NO_MAPPING",
    "another VO": "CALLER_VO_BOUNDS",
    "no proxy": "PROXY_FILE_UNUSABLE",
    "no command": "COMMAND_UNUSABLE",
    "a link": "COMMAND_UNUSABLE",
    "not executable": "COMMAND_UNUSABLE",
    "junk": "PROXY_EMPTY",
}


def refusal(rig: HelperRig, what: str) -> Outcome:
    """Ask for something that is refused; a payload that ran in spite of it would be seen."""
    payload: tuple[str, ...] = ("/usr/bin/id",)
    proxy = rig.proxy()
    if what == "another VO":
        proxy = rig.proxy(0, vo="other", fqans=("/other",))
    elif what == "no proxy":
        proxy = rig.prefix / "proxies" / "nowhere"
    elif what == "junk":
        proxy = rig.prefix / "proxies" / "junk"
        proxy.write_text("junk")
        rig.give(proxy)
    elif what == "no command":
        payload = ("/nowhere/id",)
    elif what == "a link":
        payload = ("/bin/sh", "-c", "id")
    elif what == "not executable":
        payload = ("/etc/passwd",)
    if what == "no mapping":
        with rig.mapped(""):
            return rig.run(*payload)
    return rig.run(*payload, proxy=proxy)


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_refused_is_refused_with_the_same_words(installed: Installed, what: str) -> None:
    rig = installed.rig
    before = len(installed.audit())
    done = refusal(rig, what)
    assert (done.reason, done.out) == (REFUSED[what], "")
    (mode,) = {line.get("mode") for line in installed.audit()[before:]}
    assert mode == "log-only"
    assert done.status[-1]["mode"] == "log-only"
    rig.program.chmod(0o4711)
    with rig.configured():
        switched = refusal(rig, what)
    assert (switched.code, switched.reason, switched.out) == (done.code, done.reason, "")


def test_a_caller_without_a_section_is_refused(installed: Installed) -> None:
    done = installed.rig.run("/usr/bin/id", user=installed.rig.pools[5], proxy=Path("/nowhere"))
    assert done.code in (202, 203)
    assert done.out == ""


def test_verb_map_leases_nothing_and_says_the_mode(installed: Installed) -> None:
    rig = installed.rig
    rig.release_all()
    done = rig.run(verb="map")
    assert (done.code, done.line("map")["mode"], done.line("map")["account"]) == (0, "log-only", rig.pools[0])


def test_there_is_nothing_to_clean_up_and_no_run_to_order(installed: Installed) -> None:
    rig = installed.rig

    def answer(*words: str) -> tuple[int, bytes]:
        process = rig.start(words)
        _, err = process.communicate(timeout=120)
        return process.returncode, err

    assert answer("cleanup") == (0, b"")
    for words in (
        ("cleanup", "0" * 32),
        ("signal", "0" * 32, "TERM"),
        ("renew", "0" * 32, "--proxy", str(rig.proxy())),
    ):
        code, err = answer(*words)
        assert (code, b"CALLER_NOT_ALLOWED" in err) == (203, True)


def test_glexecs_callers_get_its_logging_only_mode(installed: Installed, tmp_path: Path) -> None:
    rig = installed.rig
    target = Path(f"/var/tmp/{OURS}target")

    def change(text: str) -> str:
        return text.replace(str(rig.log), str(installed.log)).replace("vos = demo\n", "vos = demo\nglexec = yes\n")

    with rig.configured(MODE, change=change):
        assert rig.run(verb="glexec", options=["--target-proxy", str(target)]).code == 0
        done = rig.run(
            SH,
            "-c",
            "id -u; pwd; echo $GLEXEC_ID $X509_USER_PROXY; exit 202",
            verb="glexec",
            options=["--target-proxy", str(target)],
            environment={"GLEXEC_ID": "seen", "SECRET": "kept"},
        )
    try:
        assert (done.code, done.err) == (204, "")
        assert done.out.split() == [str(rig.pilot.pw_uid), rig.pilot.pw_dir, "seen", str(target)]
        status = target.stat()
        assert (status.st_uid, status.st_mode & 0o777) == (rig.pilot.pw_uid, 0o600)
        assert target.read_text() == rig.proxy().read_text()
    finally:
        target.unlink()


def test_the_old_lines_name_the_account_in_this_mode_too(installed: Installed) -> None:
    rig = installed.rig
    old = rig.prefix / "log" / "old.log"
    if not installed.setuid:
        old.touch()
        os.chown(old, 0, rig.pilot.pw_gid)
        # Who may only append writes all the same.
        old.chmod(0o620)
    try:
        with rig.configured(
            f"{MODE}\nlegacy_log_file = {old}", change=lambda text: text.replace(str(rig.log), str(installed.log))
        ):
            done = rig.run("/usr/bin/true")
        assert done.code == 0
        text = old.read_text()
        assert text.count("\n") == 8
        assert f"->mapped_user({done.line('start')['account']})" in text
        assert f"real_user({PILOT})" in text
    finally:
        old.unlink()


def test_two_owners_may_be_named_the_same_account(installed: Installed) -> None:
    rig = installed.rig
    rig.release_all()
    names = {str(rig.run("/usr/bin/true", proxy=rig.proxy(n)).line("start")["account"]) for n in range(2)}
    assert names == {rig.pools[0]}


@pytest.mark.parametrize(("ends_with", "code"), [(0, 0), (7, 7), (201, 204), (204, 204)])
def test_exit_codes_are_those_of_a_run(installed: Installed, ends_with: int, code: int) -> None:
    done = installed.rig.run(SH, "-c", f"exit {ends_with}")
    assert (done.code, done.line("end")["exit_code"]) == (code, ends_with)


def started(rig: HelperRig, *payload: object) -> "subprocess.Popen[bytes]":
    """Start a payload that says `ready`, and wait until it has."""
    process = rig.start(["run", "--proxy", str(rig.proxy()), "--", *map(str, payload)])
    assert process.stdout
    assert process.stdout.readline() == b"ready\n"
    return process


def test_signals_are_passed_on_and_a_deaf_payload_dies_after_the_grace(installed: Installed) -> None:
    rig = installed.rig
    process = started(rig, SH, "-c", "trap 'exit 33' TERM; echo ready; while :; do sleep 0.02; done")
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 33
    with rig.configured(
        f"{MODE}\nterm_grace_seconds = 1", change=lambda text: text.replace(str(rig.log), str(installed.log))
    ):

        def once() -> float:
            process = started(rig, rig.attack("hydra"), "heads", 3)
            begun = time.monotonic()
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) in (128 + signal.SIGTERM, 128 + signal.SIGKILL)
            return time.monotonic() - begun

        soon(once, 3)
    assert rig.wait(lambda: of_pilot(rig) == [])


def test_what_the_payload_leaves_running_is_killed(installed: Installed) -> None:
    rig = installed.rig
    done = rig.run(rig.attack("hydra"), "leave", "6")
    assert (done.code, done.line("end")["left_processes"]) == (7, 0)
    assert rig.wait(lambda: of_pilot(rig) == [])
    assert rig.left() == []


def test_a_caller_that_kills_the_front_ends_all_of_it(installed: Installed) -> None:
    rig = installed.rig
    process = started(rig, rig.attack("hydra"), "heads", 6)
    before = len(installed.audit())
    process.kill()
    assert rig.wait(lambda: of_pilot(rig) == [])
    assert rig.wait(lambda: len(installed.audit()) > before)
    assert (installed.audit()[-1]["event"], installed.audit()[-1]["reason"]) == ("END", "FRONT_LOST")
    assert rig.left() == []


def test_fifty_runs_write_fifty_starts_and_ends_in_whole_lines(installed: Installed) -> None:
    rig = installed.rig
    before, proxies = len(installed.audit()), [rig.proxy(n) for n in range(3)]
    with concurrent.futures.ThreadPoolExecutor(10) as pool:
        runs = list(pool.map(lambda n: rig.run("/usr/bin/true", proxy=proxies[n % 3]), range(50)))
    assert {done.code for done in runs} == {0}
    assert Counter(str(line["event"]) for line in installed.audit()[before:]) == {"START": 50, "END": 50}
    assert rig.left() == []
    assert rig.wait(lambda: of_pilot(rig) == [])


@pytest.mark.parametrize(
    ("section", "reason"),
    [
        ("[isolation]\nmemory_bytes = 1073741824", "CGROUP_FAILED"),
        ("[isolation]\nnamespaces = required", "ISOLATION_FAILED"),
        ("cgroup = required", "CGROUP_FAILED"),
    ],
)
def test_a_bound_that_cannot_be_set_refuses(installed: Installed, section: str, reason: str) -> None:
    rig = installed.rig

    def change(text: str) -> str:
        text = text.replace(str(rig.log), str(installed.log))
        return f"{text}\n{section}\n" if section.startswith("[") else text.replace(MODE, f"{MODE}\n{section}")

    with rig.configured(MODE, change=change):
        done = rig.run("/usr/bin/id")
    assert (done.code, done.reason, done.out) == (202, reason, "")
    done = rig.run("/usr/bin/id", options=["--memory-bytes", "1073741824"])
    assert (done.code, done.reason, done.out) == (202, "CGROUP_FAILED", "")


def test_without_a_log_that_takes_the_lines_nothing_runs(installed: Installed) -> None:
    rig = installed.rig
    installed.log.unlink(missing_ok=True)
    installed.log.mkdir()
    try:
        done = rig.run("/usr/bin/id")
    finally:
        installed.log.rmdir()
    assert (done.code, done.reason, done.out) == (202, "AUDIT_UNAVAILABLE", "")


# nothing but the word leads there


def witnessed(rig: HelperRig, mark: Path, **how: object) -> Outcome:
    """Run a payload that would leave a mark wherever it ran."""
    mark.unlink(missing_ok=True)
    return rig.run(SH, "-c", f"id -u > {mark}", **how)  # type: ignore[arg-type]


@pytest.fixture
def mark() -> Iterator[Path]:
    path = Path(f"/var/tmp/{OURS}mark")
    yield path
    path.unlink(missing_ok=True)


@pytest.mark.parametrize("mode", ["switch", ""])
def test_without_the_bit_and_without_the_word_it_refuses(rig: HelperRig, mark: Path, mode: str) -> None:
    rig.program.chmod(0o755)
    try:
        with rig.configured(f"mode = {mode}" if mode else ""):
            done = witnessed(rig, mark)
    finally:
        rig.program.chmod(0o4711)
    assert (done.code, done.reason) == (202, "HELPER_PRIVILEGE")
    assert not mark.exists()


def test_with_no_new_privs_and_without_the_word_it_refuses(rig: HelperRig, mark: Path) -> None:
    done = witnessed(rig, mark, program=["setpriv", "--no-new-privs"])
    assert (done.code, done.reason) == (202, "HELPER_NO_NEW_PRIVS")
    assert not mark.exists()


@pytest.mark.parametrize("word", ["log_only", "Log-only", "logonly", "none", "", "switch log-only", "log-only,switch"])
def test_no_other_word_is_taken_for_it(rig: HelperRig, mark: Path, word: str) -> None:
    with rig.configured(f"mode = {word}"):
        done = witnessed(rig, mark)
    assert (done.code, done.reason) == (202, "HELPER_CONFIG_INVALID")
    assert not mark.exists()


@pytest.mark.parametrize("options", [["--mode", "log-only"], ["--log-only", "yes"], ["mode", "log-only"]])
def test_no_option_selects_it(rig: HelperRig, mark: Path, options: list[str]) -> None:
    done = witnessed(rig, mark, options=options)
    assert (done.code, mark.exists()) == (201, False)


def test_no_variable_selects_it(rig: HelperRig) -> None:
    names = ("MODE", "PILOTAGE_MODE", "GLEXEC_MODE", "PILOTAGE_CONFIG", "LOG_ONLY")
    done = rig.run("/usr/bin/id", "-u", environment={**dict.fromkeys(names, "log-only"), "PATH": "/usr/bin:/bin"})
    assert (done.code, int(done.out) in rig.uids) == (0, True)


def test_the_program_of_the_mode_runs_nothing_when_the_site_wants_the_switch(rig: HelperRig, mark: Path) -> None:
    """A caller who starts it by hand, with a call that it made itself, gets what the configuration says."""
    program = rig.verifier.with_name("pilotage-logonly")
    for words in ([program], [program, "run", "--proxy", rig.proxy(), "--", SH, "-c", f"id > {mark}"]):
        done = subprocess.run(list(map(str, words)), user=rig.pilot.pw_uid, capture_output=True, check=False)
        assert done.returncode == 202
    assert not mark.exists()


def test_a_user_namespace_is_refused_in_this_mode_too(installed: Installed, mark: Path) -> None:
    done = witnessed(installed.rig, mark, program=["unshare", "--user", "--map-current-user"])
    if "unshare" in done.err:
        pytest.skip("no user namespaces for users here")
    assert (done.code, done.reason) == (202, "HELPER_USER_NAMESPACE")
    assert not mark.exists()


def test_root_has_no_payloads_in_this_mode_either(installed: Installed) -> None:
    done = installed.rig.run("/usr/bin/id", user="root")
    # Root opens the log as root does, and one that the caller may write is none for it.
    expected = (203, "CALLER_NOT_ALLOWED") if installed.setuid else (202, "AUDIT_UNAVAILABLE")
    assert ((done.code, done.reason), done.out) == (expected, "")


def test_the_privilege_is_gone_for_good(rig: HelperRig) -> None:
    with rig.configured(MODE):
        process = started(rig, SH, "-c", "echo ready; sleep 300")
        tree = [process.pid]
        for pid in tree:
            for task in Path(f"/proc/{pid}/task").iterdir():
                tree += map(int, (task / "children").read_text().split())
        for pid in tree:
            status = Path(f"/proc/{pid}/status").read_text()
            fields = dict(line.split(":\t", 1) for line in status.splitlines())
            assert fields["Uid"].split() == [str(rig.pilot.pw_uid)] * 4
            assert fields["Gid"].split() == [str(rig.pilot.pw_gid)] * 4
            for kind in ("Prm", "Eff", "Amb", "Bnd"):
                assert int(fields[f"Cap{kind}"], 16) == 0, (pid, kind)
        process.terminate()
        assert process.wait(60) == 128 + signal.SIGTERM
        regained = rig.run(rig.attack("regain"))
        assert regained.code == 0


def test_the_caller_cannot_take_the_logs_descriptor(rig: HelperRig) -> None:
    """It is open in a process of the caller's own uid, so the kernel has to be told that nobody may look into it."""
    code = (
        "import os, sys\nfor pid in sys.argv[1:]:\n"
        "  try: print(os.listdir(f'/proc/{pid}/fd'))\n  except OSError: pass\n"
    )
    with rig.configured(MODE):
        process = started(rig, SH, "-c", "echo ready; sleep 300")
        (keeper,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        words = ["/usr/bin/python3", "-c", code, keeper, str(process.pid)]
        looked = subprocess.run(words, user=rig.pilot.pw_uid, capture_output=True, text=True, check=True)
        process.terminate()
        process.wait(60)
    assert (looked.stdout, looked.stderr) == ("", "")


def test_the_payload_has_no_descriptor_of_the_log(installed: Installed) -> None:
    done = installed.rig.run(SH, "-c", "ls -l /proc/self/fd")
    assert str(installed.log) not in done.out
    assert re.findall(r" (\d+) -> ", done.out)[:3] == ["0", "1", "2"]


def test_no_limit_of_the_callers_makes_a_difference(installed: Installed) -> None:
    done = installed.rig.run(SH, "-c", "ulimit -n; ulimit -c", program=["prlimit", "--nofile=100:200", "--core=0:0"])
    assert done.out.split() == ["100", "0"]


# whatever fails


@pytest.fixture
def injector(rig: HelperRig) -> Injector:
    made = Injector(rig)
    if made.run().code == 97:
        pytest.skip("the kernel has no seccomp notification")
    return made


def test_no_failure_leads_from_the_switch_to_this_mode(injector: Injector) -> None:
    """Where the mode's program would be is one that tells that it was started: whichever call fails, it never is."""
    rig = injector.rig
    program, kept = rig.verifier.with_name("pilotage-logonly"), rig.verifier.with_name("kept")
    told = Path(f"/var/lib/{OURS}told")
    places = injector.places()
    assert len(places) > 100
    program.rename(kept)
    try:
        program.write_text(f"#!{SH}\necho started > {told}\n")
        program.chmod(0o755)
        for n, place in enumerate(places):
            done = injector.run(place.where, ERRORS[n % len(ERRORS)])
            assert done.out in ("", "right\n"), place
            assert not told.exists(), place
    finally:
        program.unlink()
        kept.rename(program)
        told.unlink(missing_ok=True)
    assert rig.run("/usr/bin/true").code == 0
    assert (rig.processes(), rig.left()) == ([], [])


def test_whichever_call_fails_in_this_mode_no_payload_runs_unlogged(injector: Injector) -> None:
    rig = injector.rig
    with rig.configured(MODE):
        good = injector.run(payload=ASK)
        assert (good.code, good.out) == (0, f"{rig.pilot.pw_uid}\n")
        places = [call.where for call in injector.chosen()]
        assert len(places) > 100
        found = {}
        for n, where in enumerate(places):
            lines = len(rig.audit())
            done = injector.run(where, ERRORS[n % len(ERRORS)], payload=ASK)
            events = [line["event"] for line in rig.since(lines)]
            name = next((call.name for call in injector.calls() if call.failed), "")
            ran = done.out != ""
            wrong = (
                (ran and ("START" not in events or done.out != f"{rig.pilot.pw_uid}\n"))
                or (not ran and done.code == 0)
                or (not ran and done.code not in (126, 201, 202, 203, 127))
                # Whoever could not read the configuration does not know the mode.
                or any(
                    line.get("mode") != "log-only" and "CONFIG" not in str(line.get("reason"))
                    for line in rig.since(lines)
                )
            )
            # No later run tidies up here; but nobody is told that nothing is left when something is.
            left = rig.left()
            silent = left and done.code == 0 and done.reason != "CLEANUP_INCOMPLETE" and name != "unlinkat"
            for path in left:
                assert path.parent == Path(rig.pilot.pw_dir)
                shutil.rmtree(path)
            if wrong or silent:
                found[f"{where} {name}"] = (done.code, done.reason, done.out, events)
        assert found == {}
        assert rig.wait(lambda: of_pilot(rig) == [])
    assert rig.processes() == []
