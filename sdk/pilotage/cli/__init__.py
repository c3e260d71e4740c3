"""The command `pilotage`."""

import os
import sys
import threading

__all__ = ["main"]


def main() -> None:
    """Run the command line; TLS 1.3 only, and nothing of gRPC's own on the terminal."""
    from pilotage.tls13 import require_tls13

    require_tls13()
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    # A thread of gRPC's may fail when a call is interrupted; what a command could not do, its own error tells.
    threading.excepthook = lambda _: None
    from pilotage.cli.commands import cli
    from pilotage.cli.session import unwritten

    try:
        sys.exit(cli.main(prog_name="pilotage"))
    except OSError as error:
        # Of help texts, which are printed before a command is there to tell of it.
        unwritten(error)
        sys.exit(1)
    finally:
        _let_go_of_output()


def _let_go_of_output() -> None:
    """Have Python not try once more, at its end, to write what cannot be written."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
