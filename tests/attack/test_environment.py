"""What a caller's variables and words can reach: nothing (checklist A5-A8, B1, B5-B7)."""

import os
import re
import subprocess

import pytest

from support.helper_rig import LIBC, LIBEXEC, PILOT, ROOT, SECOND_PILOT, HelperRig
from support.tracing import traced

pytestmark = pytest.mark.root
SH = os.path.realpath("/bin/sh")
BASH = os.path.realpath("/bin/bash")
FILES = "open,openat,openat2,stat,lstat,newfstatat,statx,access,faccessat,faccessat2,readlink,readlinkat,connect"


def ours(rig: HelperRig) -> set[str]:
    """The programs that root may run: those that were installed."""
    return {str(rig.program), *(str(rig.program.parents[1] / "libexec" / name) for name in installed(rig))}


def installed(rig: HelperRig) -> list[str]:
    return [path.name for path in (rig.program.parents[1] / "libexec").iterdir()]


def test_a_shells_functions_do_not_reach_a_shell(rig: HelperRig) -> None:
    words = [
        "run",
        "--proxy",
        str(rig.proxy()),
        "--",
        BASH,
        "-c",
        "declare -F; alias; compgen -e | grep -iE 'evil|func'; true",
    ]
    process = rig.start(words, program=[str(rig.attack("hostile_env"))])
    out, _ = process.communicate(timeout=120)
    assert (process.returncode, out) == (0, b"")


def test_no_path_of_two_hundred_variables_is_touched(rig: HelperRig) -> None:
    words = ["run", "--proxy", str(rig.proxy()), "--", "/usr/bin/true"]
    done = traced(rig, words, FILES, program=[str(rig.attack("hostile_env"))])
    assert done.code == 0, done.err
    calls = [call for call in done.of(*FILES.split(",")) if call.program in ours(rig)]
    paths = {path for call in calls for path in call.paths}
    assert str(rig.proxy()) in paths
    assert len(paths) > 30
    assert [path for path in paths if "evil" in path] == []
    assert [
        path for path in paths if re.search(r"openssl\.cnf|/engines|ossl-modules|gconv|locale|terminfo", path)
    ] == []


def test_openssl_is_told_to_read_no_configuration() -> None:
    verifier = "".join(path.read_text() for path in (ROOT / "helper_c" / "src" / "verifier").glob("*.c"))
    verify = "".join(path.read_text() for path in (ROOT / "helper_c" / "src" / "verify").glob("*.c"))
    assert "OPENSSL_INIT_NO_LOAD_CONFIG" in verifier + verify


def test_no_program_looks_for_libraries_beside_itself(rig: HelperRig) -> None:
    """CVE-2023-26031: a RUNPATH that an account could fill."""
    for program in (rig.program, *(rig.verifier.with_name(name) for name in installed(rig))):
        words = ["readelf", "-Wd", str(program)]
        dynamic = subprocess.run(words, capture_output=True, text=True, check=True).stdout
        assert "PATH" not in dynamic
        allowed = LIBC | {"libcrypto.so.3"} if program == rig.verifier else LIBC
        assert set(re.findall(r"\(NEEDED\).*\[(.*)\]", dynamic)) <= allowed, program
        for path in (program, *program.parents):
            assert path.stat().st_uid == 0
            assert path.stat().st_mode & 0o022 == 0
    assert set(LIBEXEC) <= set(installed(rig))


def test_who_calls_is_the_kernels_word(rig: HelperRig) -> None:
    claims = ("USER", "LOGNAME", "SUDO_USER", "SUDO_UID", "SUDO_GID", "PKEXEC_UID", "DOAS_USER", "UID", "EUID", "HOME")
    before = len(rig.audit())
    for name in (SECOND_PILOT, "root", "0"):
        code = f"import os, sys; os.execv(sys.argv[1], [{name!r}, *sys.argv[2:]])"
        process = rig.start(
            ["run", "--proxy", str(rig.proxy()), "--job-id", name, "--", "/usr/bin/true"],
            environment=dict.fromkeys(claims, name),
            program=("/usr/bin/python3", "-c", code),
        )
        assert process.wait(60) == 0
    assert {(line["caller"], line["caller_uid"]) for line in rig.since(before)} == {(PILOT, rig.pilot.pw_uid)}


def test_who_calls_is_the_real_uid(rig: HelperRig) -> None:
    """A program that has become the pilot only in effect is still its starter's."""
    code = (
        "import os, pwd, sys\nfirst, second = (pwd.getpwnam(name).pw_uid for name in sys.argv[1:3])\n"
        "os.setgroups([]); os.setresgid(second, second, second); os.setresuid(first, second, second)\n"
        "os.execv(sys.argv[3], sys.argv[3:])\n"
    )
    words = ["run", "--proxy", str(rig.proxy()), "--", "/usr/bin/true"]
    before = len(rig.audit())
    process = rig.start(words, user="root", program=("/usr/bin/python3", "-c", code, SECOND_PILOT, PILOT))
    _, err = process.communicate(timeout=120)
    assert (process.returncode, b"CALLER_NOT_ALLOWED" in err) == (203, True)
    (line,) = rig.since(before)
    assert line["caller"] == SECOND_PILOT


@pytest.mark.parametrize("spaces", ["off", "required"])
def test_root_runs_only_what_was_installed_and_hears_no_word_of_the_caller(rig: HelperRig, spaces: str) -> None:
    word = "pwned;`id`$(id)\n--config=/tmp/x"
    script = f"echo '{word}' >/dev/null; (setsid sleep 60 &) ; mkdir /tmp/pwned-$$; exit 0"
    words = [
        "run",
        "--proxy",
        str(rig.proxy()),
        "--job-id",
        word,
        "--target-proxy",
        "none",
        "--",
        SH,
        "-c",
        script,
        word,
    ]
    with rig.configured(f"\n[isolation]\nnamespaces = {spaces}"):
        done = traced(rig, words, "execveat")
    assert done.code == 0, done.err
    executed = [call for call in done.of("execve", "execveat") if call.result == 0]
    as_root = [call for call in executed if call.root]
    assert {call.paths[0] for call in as_root} <= ours(rig)
    assert [call for call in as_root if "pwned" in call.arguments] == []
    assert not re.search(r"python|perl|/sh\b|bash", " ".join(call.paths[0] for call in as_root))
    environments = {call.arguments.rpartition(", ")[2] for call in as_root}
    assert all(re.fullmatch(r"0x\w+ /\* 0 vars \*/", text) for text in environments), environments


def test_no_word_selects_another_configuration(rig: HelperRig) -> None:
    other = rig.prefix / "other.conf"
    other.write_text(rig.config.read_text().replace("term_grace_seconds", "x"))
    names = (
        "PILOTAGE_CONFIG",
        "CONFIG",
        "GLEXEC_CONFIG",
        "LCMAPS_DB_FILE",
        "LCAS_DB_FILE",
        "X509_CERT_DIR",
        "X509_VOMS_DIR",
    )
    assert rig.run("/usr/bin/true", environment=dict.fromkeys(names, str(other))).code == 0
    for option in ("--config", "-c", "-f", "--log", "--ca-dir", "--mode", "--user", "-u", "--account", "--uid"):
        done = rig.run("/usr/bin/true", options=[option, str(other)])
        assert (done.code, done.reason) == (201, "HELPER_USAGE"), option
    other.unlink()
