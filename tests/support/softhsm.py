"""Real PKCS#11 tokens, of SoftHSM. The library reads its configuration once a process: all tokens are made before."""

import os
import platform
import shutil
import subprocess
from pathlib import Path

import pytest

MODULES = (
    "/usr/lib/softhsm/libsofthsm2.so",
    f"/usr/lib/{platform.machine()}-linux-gnu/softhsm/libsofthsm2.so",
)
TOKENS = 20
PIN = "0529-prüfung"


class SoftHsm:
    """A folder of tokens, each handed out once."""

    def __init__(self, root: Path) -> None:
        self.module = next(Path(name) for name in MODULES if Path(name).exists())
        self.root = root
        (root / "tokens").mkdir(mode=0o700)
        config = root / "softhsm2.conf"
        config.write_text(f"directories.tokendir = {root / 'tokens'}\nobjectstore.backend = file\nlog.level = ERROR\n")
        self.environ = {**os.environ, "SOFTHSM2_CONF": str(config)}
        for number in range(TOKENS):
            self.tool("--init-token", "--free", "--label", f"token {number}", "--so-pin", "87654321", "--pin", PIN)
        self._given = 0

    def tool(self, *words: str) -> None:
        """Run SoftHSM's own tool."""
        subprocess.run(["softhsm2-util", *words], env=self.environ, check=True, capture_output=True)

    def settings(self, folder: Path, **changes: str) -> dict[str, object]:
        """Return the section [pkcs11] of a token never used before."""
        pin = folder / "token.pin"
        pin.write_text(PIN + "\n")
        pin.chmod(0o600)
        self._given += 1
        return {"module": str(self.module), "token": f"token {self._given - 1}", "pin_file": str(pin), **changes}

    def bytes(self) -> bytes:
        """Return everything the tokens keep on disk."""
        return b"".join(path.read_bytes() for path in sorted(self.root.rglob("*")) if path.is_file())


@pytest.fixture(scope="session")
def softhsm(tmp_path_factory: pytest.TempPathFactory) -> SoftHsm:
    if shutil.which("softhsm2-util") is None:
        pytest.skip("softhsm2 is not installed: deploy/install-packages test")
    made = SoftHsm(tmp_path_factory.mktemp("softhsm"))
    os.environ["SOFTHSM2_CONF"] = made.environ["SOFTHSM2_CONF"]
    return made
