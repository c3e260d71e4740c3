"""All of it, in the order in which a run would meet it."""

import os
from collections.abc import Iterator
from pathlib import Path

from pilotage.errors import PilotageError
from pilotage_helper.doctor import installation, later, machine, trust
from pilotage_helper.doctor.finding import Finding, broken, ok
from pilotage_helper.maps import check_maps
from pilotage_helper.site import Demands, read_site


def examine(config: Path, program: Path, libexec: Path) -> Iterator[Finding]:
    """Probe machine and installation; nothing is changed and no privilege is needed."""
    proc = machine.PROC / "self"
    status = (proc / "status").read_text()
    yield from machine.kernel(os.uname().release)
    yield machine.landlock()
    yield from machine.privileges(status, (proc / "uid_map").read_text())
    demands, rest, log_only = Demands(), list[Finding](), False
    try:
        site = read_site(config, any_owner=False)
        demands, log_only = site.demands, site.log_only
        rest = [
            installation.mode(site),
            installation.audit(site),
            *installation.accounts(site),
            later.jobs(site),
            *trust.authorities(site),
        ]
        rest.append(trust.organisations(site))
        check_maps(site)
        rest.insert(0, ok("configuration", str(config)))
    except PilotageError as error:
        rest.insert(0, broken("configuration", f"{error.reason.name}: {error.message}", "Every run is refused."))
    yield from installation.programs(program, libexec, log_only=log_only)
    yield from installation.cryptography(libexec)
    bounding = next(int(line.split()[1], 16) for line in status.splitlines() if line.startswith("CapBnd"))
    found = machine.groups((proc / "mountinfo").read_text(), (proc / "cgroup").read_text())
    yield from machine.control_groups(found, demands)
    yield machine.namespaces(bounding, demands)
    yield from rest
