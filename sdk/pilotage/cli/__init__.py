"""The command `pilotage`."""

import os
import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line; TLS 1.3 only, and nothing of gRPC's own on the terminal."""
    from pilotage.tls13 import require_tls13

    require_tls13()
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from pilotage.cli.commands import cli

    sys.exit(cli.main(prog_name="pilotage"))
