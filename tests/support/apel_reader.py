"""A reader of APEL's messages as strict as the server's.

The server's own reader is on no package index, so its rules are written down here in our words, from apel/apel
(`apel/db/records/record.py` at 04b792f0, `apel/db/records/job.py` at 19880054, `apel/db/loader/record_factory.py` at
1cabd359), and the widths of its columns from `schemas/server.sql` at 0580763f.
"""

import time

MANDATORY = {"Site", "LocalJobId", "WallDuration", "CpuDuration", "StartTime", "EndTime"}
ORDER = (
    "Site",
    "SubmitHost",
    "MachineName",
    "Queue",
    "LocalJobId",
    "LocalUserId",
    "GlobalUserName",
    "FQAN",
    "VO",
    "VOGroup",
    "VORole",
    "WallDuration",
    "CpuDuration",
    "Processors",
    "NodeCount",
    "StartTime",
    "EndTime",
    "InfrastructureDescription",
    "InfrastructureType",
    "MemoryReal",
    "MemoryVirtual",
    "ServiceLevelType",
    "ServiceLevel",
)
WHOLE = {
    "WallDuration",
    "CpuDuration",
    "Processors",
    "NodeCount",
    "MemoryReal",
    "MemoryVirtual",
    "StartTime",
    "EndTime",
}
WIDTHS = dict.fromkeys(ORDER, 255) | {"Queue": 100, "InfrastructureDescription": 100, "InfrastructureType": 20}
LEVELS = {"si2k", "hepspec", "hepscore23"}


class NotApel(Exception):
    """The server would throw the whole message away."""


def read(text: str) -> list[dict[str, str | int | float | None]]:
    """Return the records of a message."""
    header, *lines = text.strip().splitlines()
    if header.partition(":")[0].strip() != "APEL-individual-job-message":
        raise NotApel(header)
    records = [piece for piece in "\n".join(lines).strip().split("%%") if piece.strip()]
    return [_record(piece) for piece in records]


def _record(text: str) -> dict[str, str | int | float | None]:
    found: dict[str, str | int | float | None] = {}
    for line in text.strip().splitlines():
        key, colon, value = (part.strip() for part in line.partition(":"))
        if not colon or key not in ORDER or key in found:
            raise NotApel(line)
        if len(value) > WIDTHS[key]:
            raise NotApel(f"{key} has {len(value)} characters")
        if value.lower() in ("none", "null", ""):
            found[key] = None
        else:
            found[key] = int(value) if key in WHOLE else float(value) if key == "ServiceLevel" else value
    if list(found) != [key for key in ORDER if key in found]:
        raise NotApel("the order of the fields")
    for key in MANDATORY:
        if found.get(key) is None:
            raise NotApel(f"no {key}")
    start, end = found["StartTime"], found["EndTime"]
    if not (isinstance(start, int) and isinstance(end, int) and start <= end <= time.time() + 2 * 86400):
        raise NotApel("the times")
    if str(found.get("ServiceLevelType")).lower() not in LEVELS or found.get("ServiceLevel") is None:
        raise NotApel("the service level")
    return found
