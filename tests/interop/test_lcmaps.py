"""What a site's LCMAPS maps and what the helper maps after import-lcmaps are the same account and the same groups."""

import json
import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from pilotage_helper.cli import main
from support.helper_rig import ANALYSIS, POOL, HelperRig

pytestmark = pytest.mark.root
DRIVER = Path(__file__).with_name("lcmaps_answer.py")
MODULES = """\
path = /usr/lib/lcmaps
verify = "lcmaps_verify_proxy.mod" "-certdir {grid}/certificates" {verify}
ban_dn = "lcmaps_ban_dn.mod" "-banmapfile {site}/bans"
ban_fqan = "lcmaps_ban_fqan.mod" "-banmapfile {site}/bans"
groups = "lcmaps_voms_localgroup.mod" "-groupmapfile {site}/groupmapfile"
voms_pool = "lcmaps_voms_poolaccount.mod" "-gridmapfile {site}/grid-mapfile" "-gridmapdir {site}/gridmapdir"
voms_local = "lcmaps_voms_localaccount.mod" "-gridmapfile {site}/grid-mapfile"
voms_only = "lcmaps_voms_localaccount.mod" "-gridmapfile {site}/grid-mapfile" "--use-voms-gid"
pool = "lcmaps_poolaccount.mod" "-gridmapfile {site}/grid-mapfile" "-gridmapdir {site}/gridmapdir"
local = "lcmaps_localaccount.mod" "-gridmapfile {site}/grid-mapfile"
good = "lcmaps_dummy_good.mod"
site:
"""


class Answer(msgspec.Struct, frozen=True):
    """Whom a proxy maps to; no uid: nobody."""

    uid: int | None = None
    gid: int | None = None
    groups: frozenset[int] = frozenset()


class Site:
    """The files of one site, which both read; leases of each in a directory of its own."""

    def __init__(self, rig: HelperRig) -> None:
        self.rig = rig
        self.root = rig.prefix / "lcmaps"
        self.root.mkdir()
        self.database = self.root / "lcmaps.db"
        self.config = self.root / "helper.conf"
        self.write("bans", '"/none"\n')
        self.write("grid-mapfile", "")
        self.write("groupmapfile", "")

    def write(self, name: str, text: str) -> None:
        """Write one file; {me} is the first owner's DN."""
        (self.root / name).write_text(text.replace("{me}", self.rig.owners[0].dn))

    def both(self, rules: str, proxy: Path, *, verify: str = "", accounts: tuple[str, ...] = ()) -> Answer:
        """Ask both, whose answer must be one."""
        text = MODULES.format(site=self.root, grid=self.rig.prefix / "grid", verify=verify) + rules + "\n"
        self.database.write_text(text)
        self._offer(accounts)
        theirs = self._lcmaps(proxy)
        # By a lease that LCMAPS made, and by one of the helper's own.
        assert self._helper(proxy) == theirs
        self._offer(accounts)
        if len(accounts) <= 1:
            assert self._helper(proxy) == theirs
        return theirs

    def _offer(self, accounts: tuple[str, ...]) -> None:
        """Make every account free again."""
        shutil.rmtree(self.root / "gridmapdir", ignore_errors=True)
        (self.root / "gridmapdir").mkdir()
        for name in accounts:
            (self.root / "gridmapdir" / name).touch()

    def _lcmaps(self, proxy: Path) -> Answer:
        variables = {
            "LCMAPS_DB_FILE": str(self.database),
            "LCMAPS_DIR": "",
            "LCMAPS_MODULES_DIR": "/usr/lib/lcmaps",
            "LCMAPS_LOG_FILE": str(self.root / "log"),
            "X509_CERT_DIR": str(self.rig.prefix / "grid" / "certificates"),
            "X509_VOMS_DIR": str(self.rig.prefix / "grid" / "vomsdir"),
        }
        done = subprocess.run(
            ["/usr/bin/python3", DRIVER, proxy],
            env={**os.environ, **variables},
            capture_output=True,
            timeout=120,
            check=True,
        )
        said = json.loads(done.stdout)
        if not said["ok"]:
            return Answer()
        return Answer(said["uid"], said["primary"][0], frozenset(said["primary"] + said["secondary"]))

    def _helper(self, proxy: Path) -> Answer:
        made = CliRunner().invoke(main, ["import-lcmaps", str(self.database), "--output", str(self.config), "--force"])
        assert made.exit_code == 0, made.stderr
        words = ["map", "--json", "--config", str(self.config), "--vomsdir", str(self.rig.prefix / "grid" / "vomsdir")]
        said = json.loads(CliRunner().invoke(main, [*words, "--lease", str(proxy)]).stdout)
        return Answer(said["uid"], said["gid"], frozenset(said["groups"])) if said["ok"] else Answer()


@pytest.fixture
def site(rig: HelperRig) -> Iterator[Site]:
    if not Path("/usr/lib/lcmaps/lcmaps_voms_poolaccount.mod").exists():
        pytest.skip("needs Debian's LCMAPS: see deploy/packages.txt")
    made = Site(rig)
    yield made
    shutil.rmtree(made.root)


def account(number: int) -> pwd.struct_passwd:
    return pwd.getpwnam(f"{POOL}{number:02}")


def test_a_dn_maps_to_the_same_account(site: Site) -> None:
    plain = site.rig.plain_proxy(site.rig.owners[0], "lcmaps.pem")
    other = site.rig.plain_proxy(site.rig.owners[1], "lcmaps-other.pem")
    site.write("grid-mapfile", f'"/O=x/CN=y" {POOL}01\n"{{me}}" .pool,{POOL}02,{POOL}03\n"{{me}}" {POOL}04\n')
    answer = site.both("verify -> local", plain)
    assert (answer.uid, answer.gid) == (account(2).pw_uid, account(2).pw_gid)
    assert site.both("verify -> local", other) == Answer()
    assert site.both("verify -> local", site.rig.proxy()) == answer


def test_a_dn_maps_to_the_same_pool(site: Site) -> None:
    plain = site.rig.plain_proxy(site.rig.owners[0], "lcmaps.pem")
    site.write("grid-mapfile", f'"{{me}}" {POOL}02,.{POOL}\n')
    assert site.both("verify -> pool", plain, accounts=(f"{POOL}05",)).uid == account(5).pw_uid
    assert site.both("verify -> pool", plain, accounts=("other1",)) == Answer()
    assert site.both("verify -> pool", plain, accounts=tuple(f"{POOL}{n:02}" for n in (8, 6, 7))).uid is not None
    # The account is found first, or the pool, as the rules say.
    rules = "verify -> local\nlocal -> good | pool"
    assert site.both(rules, plain, accounts=(f"{POOL}05",)).uid == account(2).pw_uid
    rules = "verify -> pool\npool -> good | local"
    assert site.both(rules, plain, accounts=(f"{POOL}05",)).uid == account(5).pw_uid


@pytest.mark.parametrize(
    "fqans", [(ANALYSIS, "/demo"), ("/demo", ANALYSIS), ("/demo/Role=production", "/demo"), ("/demo",), ("/demo/sub",)]
)
def test_attributes_map_to_the_same_pool_and_groups(site: Site, fqans: tuple[str, ...]) -> None:
    proxy = site.rig.proxy(fqans=fqans)
    site.write("grid-mapfile", f'"/demo/*" .{POOL}\n"/demo" .{POOL}\n')
    site.write(
        "groupmapfile",
        f'"{ANALYSIS}" {POOL}11\n"/demo/Role=production" {POOL}10\n"/demo" {POOL}12\n"/demo/*" {POOL}09\n',
    )
    rules = "verify -> groups\ngroups -> voms_pool\nvoms_pool -> good"
    answer = site.both(rules, proxy, accounts=(f"{POOL}06",))
    assert answer.uid == account(6).pw_uid
    # Among several the helper finds the account that LCMAPS leased.
    assert site.both(rules, proxy, accounts=tuple(f"{POOL}{n:02}" for n in (8, 6, 7))).groups == answer.groups
    assert len(answer.groups) == len(fqans)


@pytest.mark.parametrize("plugin", ["voms_local", "voms_only"])
def test_attributes_map_to_the_same_account_and_groups(site: Site, plugin: str) -> None:
    site.write("grid-mapfile", f'"/demo" {POOL}03\n"{ANALYSIS}" {POOL}04\n')
    site.write("groupmapfile", f'"{ANALYSIS}" {POOL}11\n"/demo/*" {POOL}12\n')
    rules = f"verify -> groups\ngroups -> {plugin}\n{plugin} -> good"
    answer = site.both(rules, site.rig.proxy(fqans=(ANALYSIS, "/demo/Role=production")))
    assert answer.uid == account(4).pw_uid
    own = {account(4).pw_gid} if plugin == "voms_local" else set()
    assert answer.groups == {account(11).pw_gid, account(12).pw_gid} | own
    # The first attribute has no group, and one account brings its own.
    answer = site.both(rules, site.rig.proxy(fqans=("/demo", ANALYSIS)))
    assert answer.uid == (account(3).pw_uid if plugin == "voms_local" else None)


def test_fqan_first_then_dn_is_the_same(site: Site) -> None:
    rules = "verify -> voms_local\nvoms_local -> good | local\nlocal -> good"
    site.write("grid-mapfile", f'"{{me}}" {POOL}01\n"{ANALYSIS}" {POOL}02\n')
    assert site.both(rules, site.rig.proxy()).uid == account(2).pw_uid
    assert site.both(rules, site.rig.proxy(fqans=("/demo",))).uid == account(1).pw_uid
    assert site.both(rules, site.rig.proxy(1, fqans=("/demo",))) == Answer()
    turned = "verify -> local\nlocal -> good | voms_local"
    assert site.both(turned, site.rig.proxy()).uid == account(1).pw_uid
    assert site.both(turned, site.rig.proxy(1)).uid == account(2).pw_uid


def test_bans_and_limited_proxies_are_the_same(site: Site) -> None:
    site.write("grid-mapfile", f'"{{me}}" {POOL}01\n')
    rules = "verify -> ban_dn\nban_dn -> ban_fqan\nban_fqan -> local"
    assert site.both(rules, site.rig.proxy()).uid == account(1).pw_uid
    for ban in ('"{me}"\n', '"/O=Toy Grid/*"\n', f'"{ANALYSIS}"\n', '"/demo/*"\n'):
        site.write("bans", ban)
        assert site.both(rules, site.rig.proxy()) == Answer()
    grid, owner = site.rig.grid, site.rig.owners[0]
    limited = site.rig.give(grid.plain_proxy(owner, site.root / "limited.pem", limited=True))
    for verify, uid in (("", account(1).pw_uid), ('"--allow-limited-proxy"', account(1).pw_uid)):
        assert site.both("verify -> local", limited, verify=verify).uid == uid
    assert site.both("verify -> local", limited, verify='"--disallow-limited-proxy"') == Answer()


def test_lives_that_are_too_long_are_the_same(site: Site) -> None:
    site.write("grid-mapfile", f'"{{me}}" {POOL}01\n')
    for words in ("--max-voms-ttl 0d-01:00", "--max-proxy-level-ttl=L 0d-01:00"):
        assert site.both("verify -> local", site.rig.proxy(), verify=f'"{words}"') == Answer()
    for words in ("--max-voms-ttl 2d-00:00", "--max-proxy-level-ttl=L 2d-00:00"):
        assert site.both("verify -> local", site.rig.proxy(), verify=f'"{words}"').uid == account(1).pw_uid
