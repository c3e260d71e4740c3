"""The payload's proxy goes where the caller says, with the account's rights alone (helper.md C5)."""

import os
import pwd
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from support.glexec_rig import SHELL, GlexecRig, sequence
from support.helper_rig import HelperRig

pytestmark = pytest.mark.root

CERTIFICATE = "BEGIN CERTIFICATE"
SHOW = 'echo "$X509_USER_PROXY"; cat "$X509_USER_PROXY"'


def owned(path: Path, account: pwd.struct_passwd) -> bool:
    """A whole proxy, the account's alone."""
    status = path.lstat()
    mode = stat.S_IMODE(status.st_mode)
    text = path.read_text()
    return (status.st_uid, mode, status.st_nlink) == (account.pw_uid, 0o600, 1) and CERTIFICATE in text


@pytest.fixture
def folder(glexec: GlexecRig) -> Path:
    return glexec.folder()


# where it goes


def test_by_default_it_is_a_file_in_tmp_for_the_time_of_the_run(glexec: GlexecRig) -> None:
    process = glexec.start(glexec.program, SHELL, "-c", SHOW)
    out, err = process.communicate(timeout=120)
    name, text = out.decode().split("\n", 1)
    assert (process.returncode, err) == (0, b"")
    assert name == f"/tmp/x509up_u{glexec.account().pw_uid}.glexec.{process.pid}"
    assert text == glexec.rig.proxy().read_text()
    assert glexec.leftovers() == []


def test_a_named_file_stays_and_is_replaced_by_the_next_call(glexec: GlexecRig, folder: Path) -> None:
    target = folder / "proxy"
    assert glexec.shell(SHOW, GLEXEC_TARGET_PROXY=str(target)).out.startswith(f"{target}\n-----BEGIN CERT")
    assert owned(target, glexec.account())
    first = target.stat().st_ino
    assert glexec.run("/bin/pwd", GLEXEC_TARGET_PROXY=str(target)).code == 0
    assert target.stat().st_ino != first
    assert os.listdir(folder) == ["proxy"]


def test_dev_null_makes_no_copy(glexec: GlexecRig) -> None:
    done = glexec.shell('echo "${X509_USER_PROXY-none}"', GLEXEC_TARGET_PROXY="/dev/null")
    assert done.said == (0, "none\n", "")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    assert glexec.leftovers() == []


def test_the_source_proxy_is_what_the_payload_gets(glexec: GlexecRig, folder: Path) -> None:
    source = glexec.rig.proxy(fqans=("/demo",))
    done = glexec.run(GLEXEC_SOURCE_PROXY=str(source), GLEXEC_TARGET_PROXY=str(folder / "proxy"))
    assert done.said == (0, "", "")
    assert (folder / "proxy").read_bytes() == source.read_bytes()
    assert source.read_bytes() != glexec.rig.proxy().read_bytes()


def test_a_source_proxy_of_another_owner_is_refused(glexec: GlexecRig, folder: Path) -> None:
    other = glexec.rig.proxy(1)
    done = glexec.run("/bin/true", GLEXEC_SOURCE_PROXY=str(other), GLEXEC_TARGET_PROXY=str(folder / "proxy"))
    assert done.code == 201
    assert os.listdir(folder) == []


# without a command


def test_without_a_command_only_the_proxy_is_written(glexec: GlexecRig, folder: Path) -> None:
    target = folder / "proxy"
    before = len(glexec.rig.audit())
    assert glexec.run(GLEXEC_TARGET_PROXY=str(target)).said == (0, "", "")
    assert owned(target, glexec.account())
    log = glexec.rig.since(before)
    assert [line["event"] for line in log if line["verb"] == "glexec"][:2] == ["START", "END"]
    assert "command" not in log[0]


def test_without_a_command_and_target_the_file_in_tmp_stays(glexec: GlexecRig) -> None:
    process = glexec.start(glexec.program)
    assert process.communicate(timeout=120) == (b"", b"")
    account = glexec.account()
    target = Path(f"/tmp/x509up_u{account.pw_uid}.glexec.{process.pid}")
    assert owned(target, account)
    target.unlink()


def test_a_running_payload_sees_its_proxy_renewed_in_one_step(glexec: GlexecRig, folder: Path) -> None:
    """No-argument renewal: a reader sees the old proxy or the new one, never half of one."""
    target = folder / "proxy"
    code = (
        "import os, sys, time\n"
        "path, seen, end = os.environ['X509_USER_PROXY'], set(), time.monotonic() + 100\n"
        "print('ready', flush=True)\n"
        "while len(seen) < 2 and time.monotonic() < end:\n"
        "    text = open(path).read()\n"
        "    assert text.startswith('-----BEGIN') and text.endswith('-----\\n'), repr(text[-40:])\n"
        "    seen.add(text)\n"
        "print(len(seen))\n"
    )
    environment = glexec.variables(GLEXEC_TARGET_PROXY=str(target))
    python = os.path.realpath("/usr/bin/python3")
    process = glexec.start(glexec.program, python, "-I", "-c", code, environment=environment)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    newer = glexec.rig.proxy(fqans=("/demo/Role=analysis", "/demo"))
    renewed = glexec.run(GLEXEC_CLIENT_CERT=str(newer), GLEXEC_TARGET_PROXY=str(target))
    assert renewed.said == (0, "", "")
    assert process.communicate(timeout=120)[0] == b"2\n"
    assert process.returncode == 0


def test_with_no_target_a_call_without_a_command_only_maps(glexec: GlexecRig) -> None:
    assert glexec.run(GLEXEC_TARGET_PROXY="/dev/null").said == (0, "", "")
    with glexec.rig.mapped('"/other" .pool\n'):
        assert glexec.run(GLEXEC_TARGET_PROXY="/dev/null").code == 203


# folders


@pytest.mark.parametrize("mode", [0o700, 0o755, 0o770, 0o777, 0o1777])
def test_the_accounts_own_folder_may_have_any_mode(glexec: GlexecRig, mode: int) -> None:
    target = glexec.folder(mode) / "proxy"
    assert glexec.run(GLEXEC_TARGET_PROXY=str(target)).said == (0, "", "")
    assert owned(target, glexec.account())


def test_a_foreign_folder_must_be_sticky(glexec: GlexecRig) -> None:
    sticky = glexec.folder(0o1777, glexec.rig.pilot.pw_uid)
    assert glexec.run(GLEXEC_TARGET_PROXY=str(sticky / "proxy")).said == (0, "", "")
    for mode in (0o777, 0o755, 0o700):
        loose = glexec.folder(mode, glexec.rig.pilot.pw_uid)
        assert glexec.run(GLEXEC_TARGET_PROXY=str(loose / "proxy")).code == 201
        assert os.listdir(loose) == []


# attacks: each row makes something in a folder and names the target


def link_to(path: str) -> Callable[[GlexecRig, Path], Path]:
    def plant(glexec: GlexecRig, folder: Path) -> Path:
        (folder / "proxy").symlink_to(path)
        return folder / "proxy"

    return plant


def folder_link(glexec: GlexecRig, folder: Path) -> Path:
    (folder / "step").symlink_to(glexec.folder())
    return folder / "step" / "proxy"


def upwards(glexec: GlexecRig, folder: Path) -> Path:
    (folder / "in").mkdir()
    return folder / "in" / ".." / "proxy"


def planted_folder(glexec: GlexecRig, folder: Path) -> Path:
    (folder / "proxy").mkdir()
    return folder / "proxy"


def fifo(glexec: GlexecRig, folder: Path) -> Path:
    os.mkfifo(folder / "proxy", 0o666)
    return folder / "proxy"


def pilots_file(glexec: GlexecRig, folder: Path) -> Path:
    path = folder / "proxy"
    path.write_text("the pilot's")
    os.chown(path, glexec.rig.pilot.pw_uid, glexec.rig.pilot.pw_gid)
    path.chmod(0o666)
    return path


def other_accounts_file(glexec: GlexecRig, folder: Path) -> Path:
    other = next(uid for uid in glexec.rig.uids if uid != glexec.account().pw_uid)
    path = folder / "proxy"
    path.write_text("another's")
    os.chown(path, other, other)
    path.chmod(0o666)
    return path


def hard_link_to_the_pilots(glexec: GlexecRig, folder: Path) -> Path:
    own = glexec.rig.prefix / "proxies" / "linked"
    own.unlink(missing_ok=True)
    own.write_text("the pilot's")
    os.chown(own, glexec.rig.pilot.pw_uid, glexec.rig.pilot.pw_gid)
    os.link(own, folder / "proxy")
    return folder / "proxy"


def other_accounts_home(glexec: GlexecRig, folder: Path) -> Path:
    other = next(uid for uid in glexec.rig.uids if uid != glexec.account().pw_uid)
    return Path(pwd.getpwuid(other).pw_dir) / "proxy"


PLANTS: dict[str, Callable[[GlexecRig, Path], Path]] = {
    "symlink to a file of root's": link_to("/etc/hosts"),
    "symlink to nothing": link_to("/opt/new-file-of-the-attack"),
    "symlink to /dev/null": link_to("/dev/null"),
    "symlink as a step": folder_link,
    "..": upwards,
    "folder in its place": planted_folder,
    "FIFO": fifo,
    "file of the pilot": pilots_file,
    "file of another account": other_accounts_file,
    "hard link to the pilot's file": hard_link_to_the_pilots,
    "home of another account": other_accounts_home,
    "root's file": lambda glexec, folder: Path("/etc/hosts"),
    "root's new file": lambda glexec, folder: Path("/etc/new-file-of-the-attack"),
    "root's folder": lambda glexec, folder: Path("/root"),
    "the root folder": lambda glexec, folder: Path("/"),
    "procfs": lambda glexec, folder: Path("/proc/self/mem"),
    "magic link": lambda glexec, folder: Path("/proc/self/root/tmp/x"),
    "a descriptor": lambda glexec, folder: Path("/proc/self/fd/0"),
    "a device": lambda glexec, folder: Path("/dev/zero"),
    "the helper's own folder": lambda glexec, folder: glexec.rig.etc / "grid-mapfile",
}


def state(*paths: Path) -> list[tuple[str, int, int, int, bytes]]:
    """Everything about some files and all below some folders."""
    found = []
    for path in [one for root in paths for one in (root, *sorted(root.rglob("*")))]:
        status = path.lstat()
        content = path.read_bytes() if stat.S_ISREG(status.st_mode) else b""
        found.append((str(path), status.st_uid, status.st_mode, status.st_ino, content))
    return found


@pytest.mark.parametrize("name", PLANTS)
def test_a_hostile_target_is_refused_and_nothing_is_touched(glexec: GlexecRig, name: str) -> None:
    account = glexec.account()
    folder = glexec.folder(0o777)
    target = PLANTS[name](glexec, folder)
    watched = [folder, Path("/etc/hosts"), glexec.rig.etc, glexec.rig.prefix / "proxies", glexec.rig.prefix / "home"]
    before = state(*watched)
    done = glexec.run("/bin/echo", "ran", GLEXEC_TARGET_PROXY=str(target))
    assert (done.code, done.out) == (201, "")
    assert "TARGET_PROXY_UNUSABLE" in done.err
    assert state(*watched) == before
    assert not Path("/opt/new-file-of-the-attack").exists()
    assert not Path("/etc/new-file-of-the-attack").exists()
    assert pwd.getpwuid(account.pw_uid) == account


@pytest.mark.parametrize("form", ["{folder}/", "{folder}/.", "{folder}/./proxy", "{folder}/x/proxy"])
def test_a_path_that_is_not_plain_is_refused(glexec: GlexecRig, folder: Path, form: str) -> None:
    assert glexec.run("/bin/true", GLEXEC_TARGET_PROXY=form.format(folder=folder)).code == 201
    assert os.listdir(folder) == []


def test_a_name_too_long_is_refused(glexec: GlexecRig, folder: Path) -> None:
    assert glexec.run("/bin/true", GLEXEC_TARGET_PROXY=f"{folder}/{'x' * 255}").code == 0
    assert glexec.run("/bin/true", GLEXEC_TARGET_PROXY=f"{folder}/{'y' * 256}").code == 201


def test_an_attacker_that_swaps_the_target_gets_nothing_written_elsewhere(glexec: GlexecRig, rig: HelperRig) -> None:
    """C5 as a race: a process in the same 0777 folder turns the name into a link again and again."""
    folder = glexec.folder(0o777)
    victim = rig.prefix / "victim"
    victim.write_text("untouched")
    victim.chmod(0o666)
    code = (
        "import os, sys\n"
        "os.chdir(sys.argv[1])\n"
        "while True:\n"
        "    for plant in (lambda: os.symlink(sys.argv[2], 'x'), lambda: os.mkdir('x'), lambda: open('x', 'w')):\n"
        "        try:\n"
        "            plant(); os.rename('x', 'proxy')\n"
        "        except OSError: pass\n"
        "        for clean in (os.unlink, os.rmdir):\n"
        "            for name in ('x', 'proxy'):\n"
        "                try: clean(name)\n"
        "                except OSError: pass\n"
    )
    attacker = glexec.start("/usr/bin/python3", "-I", "-c", code, folder, victim)
    codes = set()
    try:
        for _ in range(15):
            codes.add(glexec.run(GLEXEC_TARGET_PROXY=str(folder / "proxy")).code)
    finally:
        attacker.kill()
        attacker.communicate()
    assert codes <= {0, 201}
    assert victim.read_text() == "untouched"
    assert [path.name for path in folder.iterdir() if path.name.startswith(".pilotage")] == []


def test_a_default_name_that_is_taken_by_somebody_is_left_alone(glexec: GlexecRig) -> None:
    uid = glexec.account().pw_uid
    planted: list[Path] = []

    def plant() -> None:
        path = Path(f"/tmp/x509up_u{uid}.glexec.{os.getpid()}")
        path.write_text("the pilot's")

    process = glexec.start(glexec.program, "/bin/echo", "ran", prepare=plant)
    out, _ = process.communicate(timeout=120)
    planted.append(Path(f"/tmp/x509up_u{uid}.glexec.{process.pid}"))
    try:
        assert (process.returncode, out) == (201, b"")
        assert planted[0].read_text() == "the pilot's"
    finally:
        planted[0].unlink()


def test_what_the_account_keeps_in_tmp_stays_for_the_next_step_and_no_process_does(glexec: GlexecRig) -> None:
    keep = Path(f"/tmp/glexec-step-{os.getpid()}")
    first = glexec.shell(f"echo kept > {keep}; (setsid sleep 300 > /dev/null 2>&1 &)")
    try:
        second = glexec.run("/bin/cat", keep)
        assert sequence(first, second) == [(0, ""), (0, "")]
        assert second.out == "kept\n"
        assert glexec.rig.processes() == []
    finally:
        keep.unlink(missing_ok=True)


def test_a_full_disk_is_refused_and_leaves_no_piece(glexec: GlexecRig, folder: Path) -> None:
    account = glexec.account()
    options = f"size=4k,mode=0700,uid={account.pw_uid},gid={account.pw_gid}"
    mount = ["mount", "-t", "tmpfs", "-o", options, "none", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a tmpfs")
    try:
        done = glexec.run("/bin/true", GLEXEC_TARGET_PROXY=str(folder / "proxy"))
        assert (done.code, os.listdir(folder)) == (201, [])
    finally:
        subprocess.run(["umount", str(folder)], check=True)
