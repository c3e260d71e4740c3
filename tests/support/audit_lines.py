"""Audit files as the helper writes them, without a helper."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
DN = "/O=Test Grid/CN=alice"


def run_id(number: int) -> str:
    return f"{number:032x}"


def line(event: str, number: int, moment: datetime, **more: object) -> str:
    """One line; bytes above ASCII are escaped one by one, as pil_json does."""
    fields: dict[str, object] = {
        "time": moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "event": event,
        "run_id": run_id(number),
        "pid": 4711,
        "caller": "pilot",
        "caller_uid": 1000,
        "verb": "run",
        "job_id": f"job-{number}",
        "proxy_sha256": "0" * 64,
        "dn": DN,
        "issuer": "/O=Test Grid/CN=CA",
        "vo": "demo",
        "fqan": "/demo/Role=analysis",
        "account": "demo01",
        "uid": 20001,
        "gid": 20001,
        "lease": "%2fo",
        "tracking": "cgroup2",
        "isolation": "none",
        "command": "/bin/true",
    }
    text = json.dumps(fields | more, separators=(",", ":"), ensure_ascii=False)
    return "".join(c if ord(c) < 127 else "".join(f"\\u00{b:02x}" for b in c.encode()) for c in text) + "\n"


def start(number: int, moment: datetime = NOON, **more: object) -> str:
    return line("START", number, moment, payload_pid=4712, **more)


def end(number: int, moment: datetime = NOON + timedelta(hours=1), wall: float = 3600, **more: object) -> str:
    usage: dict[str, object] = {
        "exit_code": 0,
        "signal": 0,
        "wall_seconds": wall,
        "cpu_user_seconds": 100.25,
        "cpu_system_seconds": 1.5,
        "max_rss_bytes": 50_000_000,
        "peak_memory_bytes": 90_000_001,
        "peak_pids": 3,
        "reason": "",
        "left_processes": 0,
        "left_files": 0,
    }
    return line("END", number, moment, **(usage | more))


def write(path: Path, *lines: str) -> Path:
    path.write_text("".join(lines))
    return path
