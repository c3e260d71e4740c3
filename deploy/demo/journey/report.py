"""The report of a demo: for people in ten seconds, for programs as JSON."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from journey.leftovers import Leftovers


@dataclass(frozen=True)
class JobLine:
    """What one job did, as the server recorded it and its owner fetched it."""

    job_id: str
    owner_dn: str
    account: str
    uid: int
    pilot_uid: int
    exit_code: int
    wall_seconds: float
    cpu_seconds: float
    outputs: list[str]


def place(outputs: list[str]) -> str:
    """Return where outputs lie: the names, and the one folder they are in."""
    if not outputs:
        return "none"
    folder = os.path.commonpath([os.path.dirname(path) for path in outputs])
    return f"{', '.join(os.path.relpath(path, folder) for path in outputs)} in {folder}"


def as_text(jobs: list[JobLine], left: Leftovers) -> str:
    """Return the report for people."""
    lines = []
    for job in jobs:
        lines += [
            f"{job.owner_dn}",
            f"    ran as      {job.account} (uid {job.uid}); the pilot is uid {job.pilot_uid}",
            f"    ended with  exit code {job.exit_code} after {job.wall_seconds:.2f} s, {job.cpu_seconds:.2f} s of CPU",
            f"    outputs     {place(job.outputs)}",
        ]
    lines.append("Left behind")
    for name, found in (("process", left.processes), ("file", left.files), ("proxy", left.proxies)):
        lines.append(f"    no {name}" if not found else f"    {name}: " + "; ".join(found))
    return "\n".join(lines)


def write_json(path: Path, jobs: list[JobLine], left: Leftovers) -> None:
    """Write the report for programs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"jobs": [asdict(job) for job in jobs], "left_behind": asdict(left)}, indent=2)
    path.write_text(text + "\n")
