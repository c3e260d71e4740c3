"""What control groups this machine hands on."""

from pathlib import Path

GROUPS = Path("/sys/fs/cgroup")


def has(controller: str) -> bool:
    """Tell whether this machine can bound by this controller below our own group."""
    own = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
    return any(controller in names.split(",") for _, names, _ in own) or (
        (GROUPS / "cgroup.controllers").exists()
        and controller in (GROUPS / "cgroup.subtree_control").read_text().split()
    )
