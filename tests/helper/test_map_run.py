"""What the policy and LCAS's files decide is what a payload of the installed setuid program gets."""

import contextlib
import grp
import pwd
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.helper_rig import ANALYSIS, POOL, HelperRig

pytestmark = pytest.mark.root


@contextlib.contextmanager
def site(rig: HelperRig, policy: str = "", change: str = "", **files: str) -> Iterator[None]:
    """Run the block with files of [map], and one more line in [caller]."""
    lines = [f"policy = {policy}"] if policy else []
    for key, text in files.items():
        path = rig.etc / key
        path.write_text(text + "\n")
        path.chmod(0o644)
        lines.append(f"{key} = {path}")
    with rig.configured(mapping="\n".join(lines), change=lambda text: f"{text}{change}\n"):
        yield


def gid(name: str) -> int:
    return grp.getgrnam(name).gr_gid


def test_a_payload_has_exactly_the_groups_of_its_attributes(rig: HelperRig) -> None:
    proxy = rig.proxy(fqans=(ANALYSIS, "/demo"))
    lines = f'"{ANALYSIS}" {POOL}11\n"/demo" {POOL}12'
    with site(rig, "fqan groups fqan", groupmapfile=lines):
        done = rig.run("/usr/bin/dash", "-c", "id -g; id -G; touch f; stat -c %g f", proxy=proxy)
    first, second = gid(f"{POOL}11"), gid(f"{POOL}12")
    assert done.out.splitlines() == [str(first), f"{first} {second}", str(first)]
    assert done.line("start")["gid"] == first
    with site(rig, "fqan groups both", groupmapfile=f'"/demo" {POOL}12'):
        done = rig.run("/usr/bin/id", "-G", proxy=proxy)
    account = pwd.getpwnam(str(done.line("start")["account"]))
    assert done.out.split() == [str(account.pw_gid), str(second)]


def test_a_group_that_payloads_never_have_leases_nothing(rig: HelperRig) -> None:
    rig.release_all()
    with site(rig, "fqan groups fqan", groupmapfile='"/demo/*" root'):
        assert rig.run("/usr/bin/id").reason == "GROUP_FORBIDDEN"
    assert {path.stat().st_nlink for path in rig.gridmapdir.iterdir()} == {1}


def test_the_command_that_is_executed_is_the_one_that_is_judged(rig: HelperRig) -> None:
    with site(rig, permitted_executables="/usr/bin/tr*\n/usr/bin/env"):
        assert rig.run("/usr/bin/true").code == 0
        done = rig.run("/usr/bin/id")
        assert (done.code, done.reason) == (203, "COMMAND_FORBIDDEN")
        # The name that a program is given says nothing.
        assert rig.run("/usr/bin/../bin/true").reason == "COMMAND_FORBIDDEN"
        assert rig.run("/usr/bin/env", "/usr/bin/id", "-u").code == 0
        long = "/usr/bin/" + "t" * 4096
        assert rig.run(long).reason in {"COMMAND_FORBIDDEN", "COMMAND_UNUSABLE", "HELPER_USAGE"}


def test_verb_glexec_judges_its_command_too(rig: HelperRig) -> None:
    with site(rig, change="glexec = yes", permitted_executables="/usr/bin/true"):
        none = ["--target-proxy", "none"]
        assert rig.run("/usr/bin/true", verb="glexec", options=none).code == 0
        done = rig.run("/usr/bin/id", verb="glexec", options=none)
        assert (done.code, done.reason) == (203, "COMMAND_FORBIDDEN")


@pytest.mark.parametrize(
    ("key", "text", "reason"),
    [
        ("timeslots", "* * * * 1999 *", "TIME_SLOT_CLOSED"),
        ("allowed_users", '"/O=Toy Grid/CN=nobody"', "OWNER_NOT_LISTED"),
        ("ban_file", '"/demo/*"', "OWNER_BANNED"),
    ],
)
def test_who_may_not_come_in_runs_and_leases_nothing(rig: HelperRig, key: str, text: str, reason: str) -> None:
    rig.release_all()
    with site(rig, **{key: text}):
        done = rig.run("/usr/bin/id")
    assert (done.code, done.reason) == (203, reason)
    assert {path.stat().st_nlink for path in rig.gridmapdir.iterdir()} == {1}
    with site(rig, **{key: text}):
        (rig.etc / key).unlink()
        assert rig.run("/usr/bin/id").reason == "MAP_FILE_UNUSABLE"


def test_a_map_file_that_others_can_write_refuses(rig: HelperRig, tmp_path: Path) -> None:
    with site(rig, "fqan, dn from grid_mapfile", voms_mapfile=f'"/demo/*" {POOL}01'):
        assert rig.run("/usr/bin/id").code == 0
        (rig.etc / "voms_mapfile").chmod(0o666)
        assert rig.run("/usr/bin/id").reason == "MAP_FILE_UNUSABLE"


def verified(rig: HelperRig, account: str, owner: int = 0) -> str:
    """What verify mode says: empty when the proxy still maps to the account."""
    done = rig.run(verb="map", proxy=rig.proxy(owner), options=["--account", account])
    return done.reason


def test_a_verification_holds_while_the_lease_does(rig: HelperRig) -> None:
    rig.release_all()
    account = str(rig.run("/usr/bin/true").line("start")["account"])
    assert verified(rig, account) == ""
    assert verified(rig, account, owner=1) == "ACCOUNT_CHANGED"
    other = next(name for name in rig.pools if name != account)
    assert verified(rig, other) == "ACCOUNT_CHANGED"
    # Nobody else got it meanwhile, but the lease is gone.
    rig.release_all()
    assert verified(rig, account) == "ACCOUNT_CHANGED"
    assert {path.stat().st_nlink for path in rig.gridmapdir.iterdir() if path.is_file()} == {1}


def test_a_verification_sees_another_pool_and_a_changed_map(rig: HelperRig) -> None:
    rig.release_all()
    account = str(rig.run("/usr/bin/true").line("start")["account"])
    with rig.mapped(f'"{ANALYSIS}" .{POOL}x\n'):
        assert verified(rig, account) == "ACCOUNT_CHANGED"
    with rig.mapped(f'"{ANALYSIS}" {POOL}12\n'):
        assert verified(rig, account) == "ACCOUNT_CHANGED"
        assert verified(rig, f"{POOL}12") == ""
    with rig.mapped('"/other" x\n'):
        assert verified(rig, account) == "NO_MAPPING"
    with site(rig, ban_file='"/demo/*"'):
        assert verified(rig, account) == "OWNER_BANNED"
    assert verified(rig, account) == ""
