"""`pilotage-pilot --config FILE`: run one pilot until it is told to leave."""

import argparse
import importlib.metadata
import sys
from collections.abc import Sequence
from pathlib import Path

from pilotage.hardening import harden
from pilotage.tls13 import require_tls13

EXIT_CODES = """
exit codes (PanDA's pilot's numbers):
  0 left in good order        2 wrong use or configuration      65 the helper or this node does not work
  66 workdir unusable         68 own proxy unusable or refused  70 a fault of the pilot itself
  79 server not reached       80 own proxy ends soon            82 no job within max_idle_seconds
  143 SIGTERM, and payloads had to be ended
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog="pilotage-pilot",
        description="Take jobs from a Pilotage server and run each as its owner.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {importlib.metadata.version('pilotage')}")
    parser.add_argument(
        "--config",
        type=Path,
        required=True,
        metavar="FILE",
        help="its configuration; deploy/pilot.toml is an example with every key",
    )
    parser.add_argument("--probe", action="store_true", help="only check node and helper, and say what is offered")
    options = parser.parse_args(arguments)
    harden()
    require_tls13()
    # gRPC reads its cipher list when it is first imported, so what imports it comes after.
    from pilotage_pilot.start import start

    return start(options.config, probe_only=options.probe)


if __name__ == "__main__":
    sys.exit(main())
