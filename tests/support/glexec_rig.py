"""The installed glexec, on top of the installed setuid helper, for tests that run as root."""

import grp
import os
import pwd
import re
import secrets
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import msgspec
import pytest

from support.helper_rig import PILOT, ROOT, HelperRig

SCRIPTS = {
    "glexec_wrapenv": ("glexec_wrapenv", "glexec_wrapenv.pl"),
    "glexec_unwrapenv": ("glexec_unwrapenv", "glexec_unwrapenv.pl"),
    "mkgltempdir": ("mkgltempdir",),
}
SHELL = os.path.realpath("/bin/sh")


class Done(msgspec.Struct, frozen=True):
    """What a program gave back."""

    code: int
    out: str
    err: str

    @property
    def said(self) -> tuple[int, str, str]:
        """All of it, for one comparison."""
        return self.code, self.out, self.err


class GlexecRig:
    """The programs of gLExec's contract in the rig's prefix, and the pilot that calls them."""

    def __init__(self, rig: HelperRig) -> None:
        self.rig = rig
        self.sbin = rig.prefix / "sbin"
        self.program = self.sbin / "glexec"
        self.home = Path(rig.pilot.pw_dir)
        self._build()

    def _build(self) -> None:
        tree = self.rig.prefix / "build"
        configure = ["cmake", "-S", str(ROOT), "-B", str(tree), f"-DPILOTAGE_EXEC={self.rig.program}"]
        for words in (configure, ["cmake", "--build", str(tree), "--target", "glexec"]):
            subprocess.run(words, check=True, capture_output=True, timeout=800)
        shutil.copyfile(tree / "helper_c" / "glexec", self.program)
        self.program.chmod(0o755)
        for source, names in SCRIPTS.items():
            for name in names:
                shutil.copyfile(ROOT / "helper_c" / "src" / "glexec" / f"{source}.py", self.sbin / name)
                (self.sbin / name).chmod(0o755)

    def variables(self, proxy: Path | str | None = None, **more: str | None) -> dict[str, str]:
        """Return the environment of a pilot that calls glexec; None takes a variable away."""
        chosen = {"PATH": "/usr/bin:/bin", "GLEXEC_CLIENT_CERT": str(proxy or self.rig.proxy()), **more}
        return {name: value for name, value in chosen.items() if value is not None}

    def start(
        self,
        *words: str | Path,
        environment: Mapping[str, str] | None = None,
        stdin: int | None = subprocess.DEVNULL,
        stdout: int | None = subprocess.PIPE,
        stderr: int | None = subprocess.PIPE,
        cwd: str | Path = "/",
        prepare: Callable[[], None] | None = None,
        umask: int = 0o022,
    ) -> "subprocess.Popen[bytes]":
        """Start any program as the pilot."""
        groups = [group.gr_gid for group in grp.getgrall() if PILOT in group.gr_mem]
        return subprocess.Popen(
            [str(word) for word in words],
            user=self.rig.pilot.pw_uid,
            group=self.rig.pilot.pw_gid,
            extra_groups=groups,
            cwd=cwd,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            env=dict(environment if environment is not None else self.variables()),
            preexec_fn=prepare,
            umask=umask,
        )

    def call(
        self, *words: str | Path, given: bytes | str = b"", cwd: str | Path | None = None, **more: str | None
    ) -> Done:
        """Run any program as the pilot to its end, with variables of glexec."""
        process = self.start(*words, environment=self.variables(**more), stdin=subprocess.PIPE, cwd=cwd or "/")
        out, err = process.communicate(given.encode() if isinstance(given, str) else given, timeout=120)
        return Done(process.returncode, out.decode(errors="replace"), err.decode(errors="replace"))

    def run(self, *command: str | Path, given: bytes | str = b"", **more: str | None) -> Done:
        """Run a command through glexec."""
        return self.call(self.program, *command, given=given, **more)

    def shell(self, script: str, *words: str, given: bytes | str = b"", **more: str | None) -> Done:
        """Run a shell script through glexec."""
        return self.run(SHELL, "-c", script, *words, given=given, **more)

    def account(self) -> pwd.struct_passwd:
        """Return the account that the first owner's proxy maps to."""
        return pwd.getpwuid(int(self.run("/usr/bin/id", "-u", GLEXEC_TARGET_PROXY="/dev/null").out))

    def folder(self, mode: int = 0o755, owner: int | None = None) -> Path:
        """Make a folder in the prefix, of the mapped account or of somebody else."""
        made = self.rig.prefix / f"folder-{secrets.token_hex(4)}"
        made.mkdir()
        entry = pwd.getpwuid(owner) if owner is not None else self.account()
        os.chown(made, entry.pw_uid, entry.pw_gid)
        made.chmod(mode)
        return made

    def leftovers(self) -> list[Path]:
        """Default target proxies that are still there."""
        return [path for path in Path("/tmp").glob("x509up_u*.glexec.*") if self._pool(path)]

    def _pool(self, path: Path) -> bool:
        return bool(re.match(r"x509up_u\d+\.glexec\.\d+$", path.name)) and path.lstat().st_uid in self.rig.uids


def keyed(text: str) -> str:
    """Let the last caller of a configuration use gLExec's contract."""
    return text + "glexec = yes\n"


def sequence(*done: Done) -> Sequence[tuple[int, str]]:
    """Codes and complaints of several steps."""
    return [(one.code, one.err) for one in done]


@pytest.fixture(scope="module")
def glexec(rig: HelperRig) -> Iterator[GlexecRig]:
    """Install glexec and allow it to the pilot for one module."""
    with rig.configured(change=keyed):
        yield GlexecRig(rig)
