"""One gridmapdir for Debian's LCMAPS and the helper: each finds the other's leases, and both at once share the pool."""

import json
import os
import pwd
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.helper_rig import ANALYSIS, POOL, HelperRig
from support.lease_rig import Question, ask, leases

pytestmark = pytest.mark.root
DRIVER = Path(__file__).with_name("lcmaps_answer.py")
DATABASE = """\
path = /usr/lib/lcmaps
verify = "lcmaps_verify_proxy.mod" "-certdir {grid}/certificates"
pool = "lcmaps_poolaccount.mod" "-gridmapfile {etc}/grid-mapfile" "-gridmapdir {etc}/gridmapdir"
site:
verify -> pool
"""
OTHERS = 30


class Lcmaps:
    """LCMAPS on the helper's own map file and gridmapdir."""

    def __init__(self, rig: HelperRig) -> None:
        database = rig.prefix / "lcmaps-leases.db"
        database.write_text(DATABASE.format(grid=rig.prefix / "grid", etc=rig.etc))
        self._variables = {
            **os.environ,
            "LCMAPS_DB_FILE": str(database),
            "LCMAPS_DIR": "",
            "LCMAPS_MODULES_DIR": "/usr/lib/lcmaps",
            "LCMAPS_LOG_FILE": "/dev/null",
            "X509_CERT_DIR": str(rig.prefix / "grid" / "certificates"),
            "X509_VOMS_DIR": str(rig.prefix / "grid" / "vomsdir"),
        }

    def start(self, proxy: Path) -> "subprocess.Popen[bytes]":
        """Begin to map a proxy."""
        words = ["/usr/bin/python3", str(DRIVER), str(proxy)]
        return subprocess.Popen(words, env=self._variables, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)

    def account(self, process: "subprocess.Popen[bytes]") -> str:
        """The account it said; "": nobody's."""
        out, _ = process.communicate(timeout=120)
        said = json.loads(out)
        return pwd.getpwuid(said["uid"]).pw_name if said["ok"] else ""

    def map(self, proxy: Path) -> str:
        """Map a proxy."""
        return self.account(self.start(proxy))


@pytest.fixture(scope="module")
def lcmaps(rig: HelperRig) -> Iterator[Lcmaps]:
    if not Path("/usr/lib/lcmaps/lcmaps_poolaccount.mod").exists():
        pytest.skip("needs Debian's LCMAPS: see deploy/packages.txt")
    lines = "".join(f'"{owner.dn}" .{POOL}\n' for owner in rig.owners)
    with rig.mapped(f'{lines}"{ANALYSIS}" .{POOL}\n'), rig.configured(mapping="lease_names = lcmaps"):
        yield Lcmaps(rig)
    rig.release_all()


@pytest.fixture(scope="module")
def proxies(rig: HelperRig) -> list[Path]:
    return [rig.plain_proxy(owner, f"lease{n}.pem") for n, owner in enumerate(rig.owners)]


def test_each_finds_the_leases_of_the_other(rig: HelperRig, lcmaps: Lcmaps, proxies: list[Path]) -> None:
    rig.release_all()
    ours, theirs = (owner.dn for owner in rig.owners[:2])
    account = ask(rig, ours, fqan="").account
    assert lcmaps.map(proxies[0]) == account
    account = lcmaps.map(proxies[1])
    assert ask(rig, theirs, fqan="").account == account
    # After we have made notes in the directory it still does as it did.
    assert lcmaps.map(proxies[1]) == account
    assert len(leases(rig)) == 2


def test_of_two_whom_lcmaps_takes_for_one_only_the_first_comes_through(
    rig: HelperRig, lcmaps: Lcmaps, proxies: list[Path]
) -> None:
    rig.release_all()
    account, dn = lcmaps.map(proxies[0]), rig.owners[0].dn
    with rig.mapped(f'"{dn}" .{POOL}\n"{dn.upper()}" .{POOL}\n'):
        assert ask(rig, dn, fqan="").account == account
        assert ask(rig, dn.upper(), fqan="").reason == "POOL_LEASE_CONFLICT"


def test_both_at_once_give_each_owner_one_account(rig: HelperRig, lcmaps: Lcmaps, proxies: list[Path]) -> None:
    for _ in range(5):
        rig.release_all()
        theirs = [lcmaps.start(proxy) for proxy in proxies]
        ours = [Question(rig.mapper, f"/O=Grid/CN=other {n}") for n in range(OTHERS)]
        for question in ours:
            question.send()
        answers = [question.answer() for question in ours]
        got = [account for process in theirs if (account := lcmaps.account(process))]
        got += [answer.account for answer in answers if answer and answer.reason == ""]
        assert len(got) == len(set(got)) == len(rig.pools)
        assert {answer.reason for answer in answers if answer} == {"", "POOL_EXHAUSTED"}
        assert sorted(leases(rig).values()) == sorted(got)
