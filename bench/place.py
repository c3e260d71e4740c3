"""What the measurement needs: the installed helper, its peers, and the same proxies and maps for both.

The helper and its accounts are those of the tests that run as root (`support.helper_rig`). sudo gets a rule of
its own and LCMAPS a directory of leases of its own; everything is removed at the end.
"""

import contextlib
import pwd
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

from bench.timing import ROOT, Command, build

from support.helper_rig import ANALYSIS, OURS, PILOT, POOL, VERIFIER, HelperRig, command, tidy_up

BWRAP = ("/usr/bin/bwrap", "--ro-bind", "/", "/", "--unshare-pid", "--proc", "/proc", "/bin/true")
SUDOERS = Path("/etc/sudoers.d")
ISOLATED = "cgroup = required\n\n[isolation]\nnamespaces = required\n"
DATABASE = """\
path = /usr/lib/lcmaps
verify = "lcmaps_verify_proxy.mod" "-certdir {grid}/certificates"
account = "lcmaps_localaccount.mod" "-gridmapfile {etc}/grid-mapfile"
pool = "lcmaps_poolaccount.mod" "-gridmapfile {etc}/grid-mapfile" "-gridmapdir {leases}"
good = "lcmaps_dummy_good.mod"
voms = "lcmaps_voms_poolaccount.mod" "-gridmapfile {etc}/grid-mapfile" "-gridmapdir {leases}" "--use-account-gid"

to_account:
verify -> account

to_pool:
verify -> pool

to_voms:
verify -> voms

only_to_account:
account -> good

only_to_pool:
pool -> good

only_to_voms:
voms -> good
"""


class Place:
    """The helper as it is measured, with LCMAPS beside it."""

    def __init__(self, rig: HelperRig) -> None:
        self.rig = rig
        self.tools = rig.prefix / "bench"
        self.tools.mkdir(mode=0o755)
        base = sorted((ROOT / "helper_c" / "src" / "base").glob("*.c"))
        self.timer = build("timer.c", self.tools / "timer")
        self.lcmaps = build("lcmaps_map.c", self.tools / "lcmaps_map", "-llcmaps")
        self.both = build("two_programs.c", self.tools / "two_programs", "-static-pie", sources=base)
        self.proxies = {
            "to_account": rig.plain_proxy(rig.owners[2], "account.pem"),
            "to_pool": rig.plain_proxy(rig.owners[1], "pool.pem"),
            "to_voms": rig.proxy(0),
        }
        rig.configure(ISOLATED)
        rig.map(
            f'"{ANALYSIS}" .{POOL}\n"/demo" .{POOL}\n'
            f'"{rig.owners[1].dn}" .{POOL}\n"{rig.owners[2].dn}" {rig.pools[-1]}\n'
        )
        self.leases = self.tools / "gridmapdir"
        self.leases.mkdir(mode=0o755)
        for account in rig.pools[:-1]:
            (self.leases / account).touch(mode=0o644)
        (rig.gridmapdir / rig.pools[-1]).unlink()
        self.database = self.tools / "lcmaps.db"
        self.database.write_text(DATABASE.format(grid=rig.prefix / "grid", etc=rig.etc, leases=self.leases))

    # commands

    def as_pilot(self, name: str, *words: str) -> Command:
        """Return a command that the pilot's account starts."""
        return Command(name, words, self.rig.pilot.pw_uid, self.rig.pilot.pw_gid)

    def runs(self) -> list[Command]:
        """Return the ways to run /bin/true; the first is nothing but fork and execve."""
        proxy = str(self.proxies["to_voms"])
        return [
            self.as_pilot("fork+exec", "/bin/true"),
            self.as_pilot("sudo", "/usr/bin/sudo", "-n", "-u", self.rig.pools[0], "/bin/true"),
            self.as_pilot("bwrap", *BWRAP),
            self.as_pilot("pilotage-exec run", str(self.rig.program), "run", "--proxy", proxy, "--", "/bin/true"),
        ]

    def mappings(self) -> list[Command]:
        """Return the ways from a proxy to an account: LCMAPS, our two programs, and the whole verb map."""
        found = []
        for policy, proxy in self.proxies.items():
            for name in (policy, f"only_{policy}"):
                words = (str(self.lcmaps), str(proxy), *self._lcmaps_words(name))
                found.append(Command(f"LCMAPS {name}", words))
            found.append(Command(f"verify and map {policy}", self._both_words(proxy)))
        whole = (str(self.rig.program), "map", "--proxy", str(self.proxies["to_voms"]))
        found.append(self.as_pilot("pilotage-exec map to_voms", *whole))
        return found

    def mapper_alone(self) -> list[Command]:
        """Return pilotage-map alone, asked what the verifier's answer led to; each is asked once to get that."""
        found = []
        for policy, proxy in self.proxies.items():
            request = self.tools / f"{policy}.request"
            words = (*self._both_words(proxy), str(request))
            subprocess.run(words, check=True, stdout=subprocess.DEVNULL, timeout=60)
            found.append(Command(f"map alone {policy}", (str(self.rig.mapper), "answer"), stdin=str(request)))
        return found

    # inside

    def _lcmaps_words(self, policy: str) -> tuple[str, ...]:
        grid = self.rig.prefix / "grid"
        return (str(self.database), str(grid / "certificates"), str(grid / "vomsdir"), policy)

    def _both_words(self, proxy: Path) -> tuple[str, ...]:
        grid = self.rig.prefix / "grid"
        verifier = pwd.getpwnam(VERIFIER)
        words = (self.both, self.rig.verifier, grid / "certificates", grid / "vomsdir")
        return (*map(str, words), str(verifier.pw_uid), str(verifier.pw_gid), str(self.rig.mapper), str(proxy))


def _is_over(path: Path) -> bool:
    """Tell whether a rule is this measurement's, or of one that is no more."""
    found = re.match(r"pilotage-bench-(\d+)$", path.name)
    return found is not None and (f"pgt{found.group(1)}-" == OURS or not Path(f"/proc/{found.group(1)}").exists())


@contextlib.contextmanager
def sudo_rule(rig: HelperRig) -> Iterator[None]:
    """Let sudo switch the pilot to one account for one command, and end that."""
    rule = SUDOERS / f"pilotage-bench-{OURS.removeprefix('pgt').removesuffix('-')}"
    try:
        rule.touch(mode=0o440)
        rule.write_text(f"{PILOT} ALL=({rig.pools[0]}) NOPASSWD: /bin/true\n")
        yield
    finally:
        for path in filter(_is_over, SUDOERS.iterdir()):
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def records_in_memory(rig: HelperRig) -> Iterator[None]:
    """Have the run records where an installation has them: /run is in memory."""
    rig.rundir.mkdir(mode=0o711, exist_ok=True)
    command("mount", "-t", "tmpfs", "-o", "mode=711", "tmpfs", str(rig.rundir))
    try:
        yield
    finally:
        command("umount", str(rig.rundir))


@contextlib.contextmanager
def place(prefix: Path) -> Iterator[Place]:
    """Install everything, and remove it, also after failures."""
    tidy_up()
    try:
        rig = HelperRig(prefix)
        with sudo_rule(rig), records_in_memory(rig):
            yield Place(rig)
    finally:
        tidy_up()
