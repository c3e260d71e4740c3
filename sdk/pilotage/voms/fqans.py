"""FQANs: `/vo/group/Role=role`, the attributes that VOMS gives.

`Role=NULL` and `Capability=NULL` mean that there is none; both are dropped before anything is
compared. A capability other than NULL was never used by anybody and is refused.
"""

import re
from collections.abc import Iterable

from pilotage.errors import refuse
from pilotage.reasons import Reason

LONGEST_FQAN = 255
ADDS = "voms:"
"""Before a VO's name: the tag that pilots offer which add attributes of that VO; the server has it wanted by itself."""
MOST_FQANS = 256

_WORD = r"[A-Za-z0-9_.-]+"
_FQAN = re.compile(
    rf"(?P<group>(?:/{_WORD})+)"
    rf"(?:/Role=(?P<role>{_WORD}))?"
    r"(?:/Capability=NULL)?",
    re.ASCII,
)
_VO = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*(?:\.[A-Za-z0-9_-]+)*", re.ASCII)
_LONGEST_VO = 128


def normalise(text: str) -> str:
    """Return an FQAN in its short spelling, or raise VOMS_FQAN."""
    group, role = split(text)
    return f"{group}/Role={role}" if role else group


def split(text: str) -> tuple[str, str]:
    """Return the group and the role of an FQAN; no role is an empty one. Raises VOMS_FQAN."""
    match = _FQAN.fullmatch(text) if len(text) <= LONGEST_FQAN else None
    if match is None:
        raise refuse(Reason.VOMS_FQAN, f"{text[:80]!r} is not an FQAN such as /vo/group or /vo/group/Role=role.")
    role = match["role"] or ""
    return match["group"], "" if role == "NULL" else role


def vo_of(fqan: str) -> str:
    """Return the VO that an FQAN belongs to: its first component."""
    group, _ = split(fqan)
    return group.split("/")[1]


def check_vo(name: str) -> str:
    """Return a VO's name if it is one, else raise VOMS_URI. Names become parts of paths, so no `..`."""
    if len(name) > _LONGEST_VO or not _VO.fullmatch(name):
        raise refuse(Reason.VOMS_URI, f"{name[:80]!r} is not a name of a VO.")
    return name


def normalise_all(texts: Iterable[str], vo: str) -> tuple[str, ...]:
    """Return FQANs of one VO in their short spelling, in their order; raises VOMS_FQAN."""
    fqans = tuple(normalise(text) for text in texts)
    if len(fqans) > MOST_FQANS:
        raise refuse(Reason.VOMS_FQAN, f"There are more than {MOST_FQANS} FQANs.")
    for fqan in fqans:
        if vo_of(fqan) != vo:
            raise refuse(Reason.VOMS_FQAN, f"{fqan} is not an FQAN of the VO {vo}.")
    return fqans


def difference(asked: Iterable[str], given: Iterable[str]) -> str:
    """Say what an answer lacks of what was asked for, or return an empty text.

    The first FQAN decides to which account a job is mapped, so it must be the first that was asked for.
    """
    wanted, got = list(asked), list(given)
    missing = [fqan for fqan in wanted if fqan not in got]
    if missing:
        return f"{', '.join(missing)} not granted"
    if wanted and got[0] != wanted[0]:
        return f"{got[0]} comes before {wanted[0]}"
    return ""
