"""Stands in for `pilotage-exec` where no second account is needed: same argv, same status lines, no privilege.

The pilot's own behaviour (clocks, logs, outcomes) is tested with it quickly and without root; everything about
identity is tested with the real helper, under tests/system. First argument line: see `install`.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import FrameType

GRACE_SECONDS = 1.0


def install(folder: Path, **behaviour: object) -> Path:
    """Write an executable with a behaviour: `refuse` (status fields), `mute`, `grace`, `dn`, `mode`."""
    program = folder / "plain-helper"
    program.write_text(
        f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        f"import plain_helper\nsys.exit(plain_helper.main(sys.argv[1:], {behaviour!r}))\n"
    )
    program.chmod(0o755)
    return program


def main(arguments: list[str], behaviour: dict[str, object]) -> int:
    """Run one payload's wrapper as the caller."""
    if arguments[0] == "--version":
        print("plain helper")
        return 0
    options = dict(zip(arguments[1::2], arguments[2::2], strict=False))
    status = int(options["--status-fd"])

    def tell(**fields: object) -> None:
        if not behaviour.get("mute"):
            os.write(status, json.dumps(fields).encode() + b"\n")

    if refusal := behaviour.get("refuse"):
        assert isinstance(refusal, dict)
        tell(event="refused", **refusal)
        print(f"pilotage-exec: refused: {refusal['reason']}", file=sys.stderr)
        return int(refusal["code"])
    command = arguments[arguments.index("--") + 1 :]
    home = Path(tempfile.mkdtemp(prefix="plain-"))
    try:
        return _run(command, home, options["--proxy"], tell, behaviour)
    finally:
        shutil.rmtree(home)


def _run(command: list[str], home: Path, proxy: str, tell, behaviour: dict[str, object]) -> int:  # type: ignore[no-untyped-def]
    (home / "work").mkdir()
    shutil.copyfile(proxy, home / "proxy")
    environment = {
        "HOME": str(home),
        "PATH": "/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "X509_USER_PROXY": str(home / "proxy"),
    }
    process = subprocess.Popen(command, cwd=home / "work", env=environment)
    killer: list[float] = []

    def stop(number: int, frame: FrameType | None) -> None:
        process.send_signal(number)
        killer.append(time.monotonic() + float(str(behaviour.get("grace", GRACE_SECONDS))))

    signal.signal(signal.SIGTERM, stop)
    names = {"run_id": "ab" * 16, "account": "toy", "uid": os.getuid()}
    if mode := behaviour.get("mode"):
        names["mode"] = str(mode)
    tell(event="start", **names, gid=os.getgid(), dn=behaviour.get("dn", "/O=Toy"), fqan="", tracking="none")
    while process.poll() is None:
        if killer and time.monotonic() > killer[0]:
            subprocess.run(["pkill", "-KILL", "-P", str(process.pid)], check=False)
            process.kill()
        time.sleep(0.02)
    code = process.returncode
    tell(event="end", **names, exit_code=max(code, -1), signal=-code if code < 0 else 0, wall_seconds=0.5, reason="")
    return 128 - code if code < 0 else code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], {}))
