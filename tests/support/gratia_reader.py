"""Reads glexec.mon lines as OSG's accounting did, from back to front or not at all.

The rules are those of Gratia's glexec probe (its parser of `glexec_monitor` logs, syslog form), in our words: the
date is what stands before the host, the ids stand between the brackets, the message begins after the first colon, and
fields are cut out of it by position. Whatever cannot be cut so is skipped without a word.
"""

import re
import time

import msgspec

MARK = "glexec.mon["


class Job(msgspec.Struct):
    """What the probe knew of one call of gLExec."""

    start: float = 0
    end: float = 0
    uid: int = -1
    dn: str = ""
    vo: str = ""
    fqan: str = ""
    user_seconds: int = -1
    system_seconds: int = -1


def read(text: str) -> dict[tuple[int, int], Job]:
    """Return the jobs of a log by the pids of monitor and gLExec."""
    jobs: dict[tuple[int, int], Job] = {}
    for line in text.split("\n"):
        at = line.find(MARK)
        if at < 0:
            continue
        stamp = " ".join(line[:at].split()[:3])
        date = time.mktime(time.strptime(f"{time.localtime().tm_year} {stamp}", "%Y %b %d %H:%M:%S"))
        rest = line[at:]
        ids = rest[len(MARK) : rest.find("]:")].split("#")
        job = jobs.setdefault((int(ids[0]), int(ids[1])), Job())
        message = rest[rest.find(":") + 1 :].strip()
        _update(job, date, message)
    return jobs


def _update(job: Job, date: float, message: str) -> None:
    kind = message[:7]
    if kind == "Started":
        job.start, job.uid = date, int(message[message.rfind(" ") + 1 :])
    elif kind == "Used DN":
        job.dn = message[10:-1]
    elif kind == "Used VO":
        job.vo = message[10:].split('"', 1)[0]
    elif kind == "Used FQ":
        job.fqan = message[12:-1]
    elif kind == "Termina":
        numbers = re.findall(r" (\d+)", message)
        job.end, job.user_seconds, job.system_seconds = date, int(numbers[0]), int(numbers[1])
