"""Jobs that a payload could leave for later: cron and at take them by new privileges, and no clean-up finds them."""

import pwd
import stat
from pathlib import Path

from pilotage_helper.doctor.finding import Finding, ok, weaker
from pilotage_helper.doctor.installation import matches
from pilotage_helper.site import Site

SPOOLERS = {"crontab": ("cron", True), "at": ("at", False)}
"""Each program with the name of its lists, and whether everybody may use it where there is none: crontab(1), at(1)."""


def may(name: str, lists: str, etc: Path, *, otherwise: bool) -> bool:
    """Tell whether an account may use a spooler: by the list of who may, else by that of who may not."""
    for path, listed in ((etc / f"{lists}.allow", True), (etc / f"{lists}.deny", False)):
        if path.exists():
            return (name in path.read_text(errors="replace").split()) is listed
    return otherwise


def jobs(site: Site, etc: Path = Path("/etc"), folder: Path = Path("/usr/bin")) -> Finding:
    """Tell which accounts of payloads could leave a job for later."""
    subject = "cron and at"
    if site.no_new_privs:
        return ok(subject, "no_new_privs keeps payloads from them")
    names = [
        entry.pw_name
        for entry in pwd.getpwall()
        if entry.pw_uid >= site.min_uid and any(matches(caller.accounts, entry.pw_name) for caller in site.callers)
    ]
    found = []
    for program, (lists, otherwise) in SPOOLERS.items():
        path = folder / program
        if not path.exists() or not path.stat().st_mode & (stat.S_ISUID | stat.S_ISGID):
            continue
        able = [name for name in names if may(name, lists, etc, otherwise=otherwise)]
        if able:
            found.append(f"{program} is open to {', '.join(able[:4])}{', ...' if len(able) > 4 else ''}")
    if not found:
        return ok(subject, "closed to the accounts of payloads")
    means = "With no_new_privs = no, what a payload leaves there runs after its end: see cron.deny and at.deny."
    return weaker(subject, "; ".join(found), means)
