"""The program `pilotage-server`; what it does is in `pilotage_server.commands`."""

import sys
from collections.abc import Sequence

from pilotage.hardening import harden
from pilotage.tls13 import require_tls13


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return its exit code."""
    harden()
    require_tls13()
    # gRPC reads the variable when it is first imported, so this import must wait.
    from pilotage_server.commands import main as run_command

    return run_command(arguments)


if __name__ == "__main__":
    sys.exit(main())
