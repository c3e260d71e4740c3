"""Run the real server, and have it die by SIGKILL at one step of a retrieval, or of what follows a rotation of keys.

python -m support.doomed_server STEP CONFIG
"""

import os
import signal
import sys
from collections.abc import Callable
from typing import TypeVar

R = TypeVar("R")

STEPS = (
    "before the token is looked up",
    "before the key is unsealed",
    "when the key is unsealed",
    "when the proxy is signed",
    "when the token is spent, before the audit row",
    "when the audit row is written, before the commit",
    "when it is committed",
    "when JobService has noted it",
)
UNWRITTEN = "with notes of proxies that are never written down"
"""Not a step: such a server serves, until somebody kills it."""
ROTATION_STEPS = (
    "when a key is wrapped anew, before the commit",
    "when all keys are wrapped anew",
    "when the old key lost its name",
    "when the old key is overwritten",
    "when the old key is gone",
)


def die() -> None:
    """End as a power cut would have it: no handler runs, nothing is flushed."""
    os.kill(os.getpid(), signal.SIGKILL)


def deadly(call: Callable[..., R], *, before: bool = False) -> Callable[..., R]:
    """Return a function that is the last thing its process does."""

    def doomed(*values: object, **named: object) -> R:
        if before:
            die()
        result = call(*values, **named)
        die()
        return result

    return doomed


def arm(step: str) -> None:
    """Put the end of the process into its place."""
    from pilotage.x509.proxies import Issuer
    from pilotage_server.credentials import ledger
    from pilotage_server.credentials.sealing import Sealer
    from pilotage_server.jobs import LeaseProxies
    from pilotage_server.store import audit, credentials
    from pilotage_server.store.audit import Act
    from pilotage_server.store.lease_credentials import Issued

    if step == STEPS[0]:
        credentials.is_used = deadly(credentials.is_used, before=True)
    elif step in STEPS[1:3]:
        Sealer.unseal = deadly(Sealer.unseal, before=step == STEPS[1])  # type: ignore[method-assign]
    elif step == STEPS[3]:
        Issuer.sign = deadly(Issuer.sign)  # type: ignore[method-assign]
    elif step == STEPS[4]:
        credentials.issue = deadly(credentials.issue)
    elif step == STEPS[5]:
        append = audit.append

        def last_row(connection: object, entry: audit.Entry, now: object) -> object:
            row = append(connection, entry, now)  # type: ignore[arg-type]
            if entry.act is Act.ISSUED:
                die()
            return row

        audit.append = last_row  # type: ignore[assignment]
    elif step == STEPS[6]:
        tell = ledger._tell

        def last_line(entry: audit.Entry, head: audit.Head | None) -> None:
            if entry.act is Act.ISSUED:
                die()
            tell(entry, head)

        ledger._tell = last_line
    elif step == STEPS[7]:
        issued = LeaseProxies.issued

        def last_note(self: LeaseProxies, proxy: Issued) -> None:
            issued(self, proxy)
            die()

        LeaseProxies.issued = last_note  # type: ignore[method-assign]
    elif step == UNWRITTEN:
        from pilotage_server.store import database

        database.SOON_SECONDS = 86400.0
    elif step in ROTATION_STEPS:
        arm_rotation(step)
    else:
        raise SystemExit(f"no such step: {step}")


def arm_rotation(step: str) -> None:
    """The same, for what a server does with rotated wrapping keys."""
    from pathlib import Path

    from pilotage_server import keys
    from pilotage_server.jobs import rewrapping

    if step == ROTATION_STEPS[0]:
        rewrapping._rewrap_one = deadly(rewrapping._rewrap_one)
    elif step == ROTATION_STEPS[1]:
        keys.destroy = deadly(keys.destroy, before=True)
    elif step == ROTATION_STEPS[2]:
        keys._wipe = deadly(keys._wipe, before=True)
    elif step == ROTATION_STEPS[3]:
        unlink = Path.unlink

        def last_unlink(self: Path, missing_ok: bool = False) -> None:
            if self.name.startswith(".wrap-"):
                die()
            unlink(self, missing_ok)

        Path.unlink = last_unlink  # type: ignore[method-assign]
    else:
        keys.destroy = deadly(keys.destroy)


if __name__ == "__main__":
    from pilotage.tls13 import require_tls13

    require_tls13()
    from pilotage_server.commands import main

    arm(sys.argv[1])
    sys.exit(main(["run", "--config", sys.argv[2]]))
