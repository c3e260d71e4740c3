"""Ask the verifier in tests, and be told only the reason."""

import datetime
import subprocess
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from pilotage.errors import VerifyError
from pilotage.reasons import Reason
from pilotage_helper import Identity, VerifyOptions, verify_pem
from support import acs
from support import vectors as v


def with_(options: VerifyOptions, **changes: object) -> VerifyOptions:
    """Return the options with some of them changed."""
    return msgspec.structs.replace(options, **changes)


def refused(call: Callable[[], Identity]) -> Reason:
    """Return the reason of a refusal, whose sentence must be fit to print."""
    with pytest.raises(VerifyError) as caught:
        call()
    assert caught.value.message.isprintable()
    assert caught.value.message.isascii()
    return caught.value.reason


def why(pem: bytes, options: VerifyOptions, at: datetime.datetime | None = None) -> Reason:
    """Return the reason why a PEM file is refused."""
    return refused(lambda: verify_pem(pem, options, at))


def opinion(entity: v.Entity, grid: v.Authority, tmp_path: Path) -> str:
    """Return what `openssl verify` says about the chain."""
    leaf, rest = tmp_path / "leaf.pem", tmp_path / "rest.pem"
    leaf.write_bytes(v.pem(entity.certificate))
    rest.write_bytes(v.chain_pem(entity.above))
    command = ["openssl", "verify", "-allow_proxy_certs", "-CApath", str(grid.ca_dir)]
    command += ["-untrusted", str(rest)] if entity.above else []
    done = subprocess.run([*command, str(leaf)], capture_output=True, text=True, check=False)
    return "OK" if done.returncode == 0 else done.stderr


def ask(holder: v.Entity, options: VerifyOptions, *made: acs.Ac | bytes) -> Identity:
    """Verify a proxy that carries the attribute certificates."""
    return verify_pem(acs.proxy(holder, acs.value(*made)).pem, options)


def no(holder: v.Entity, options: VerifyOptions, *made: acs.Ac | bytes) -> Reason:
    """Return the reason why a proxy that carries the attribute certificates is refused."""
    return refused(lambda: ask(holder, options, *made))
