"""What `pilotage-helper map` says and what the installed setuid program does are one thing, for a table of sites."""

import grp
import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner
from toygrid import ToyGrid

from pilotage_helper.cli import main
from support.helper_rig import ANALYSIS, PILOT, POOL, VERIFIER, HelperRig, Outcome

pytestmark = pytest.mark.root
NOW, NEVER = "* * * * * *", "* * * * 1999 *"
NO_VO = "without_vo = yes"
BOTH = f"fqans = {ANALYSIS}\n{NO_VO}\naccounts = {POOL}*"
FQAN_GROUPS = f'"{ANALYSIS}" {POOL}11\n"/demo" {POOL}12'


class Case(msgspec.Struct, frozen=True):
    """One site and one proxy; `reason` empty for a mapping to `account`, or to any of the pool."""

    name: str
    reason: str = ""
    account: str = ""
    grid: str = f'"{ANALYSIS}" .{POOL}\n'
    policy: str = ""
    files: dict[str, str] = {}
    proxy: Callable[[HelperRig], Path] = HelperRig.proxy
    caller: str = f"vos = demo\naccounts = {POOL}*"
    wanted: str = ""
    more: str = ""
    groups: tuple[str, ...] = ()


def group_only(rig: HelperRig) -> Path:
    return rig.proxy(fqans=("/demo",))


def production_first(rig: HelperRig) -> Path:
    return rig.proxy(fqans=("/demo/Role=production", ANALYSIS))


def both_groups(rig: HelperRig) -> Path:
    return rig.proxy(fqans=(ANALYSIS, "/demo"))


def plain(rig: HelperRig) -> Path:
    return rig.plain_proxy(rig.owners[0], "plain.pem")


def foreign(rig: HelperRig) -> Path:
    grid = ToyGrid(rig.prefix / "foreign", "Other Grid")
    return rig.give(grid.plain_proxy(grid.user("mallory"), rig.prefix / "proxies" / "foreign.pem"))


def older(rig: HelperRig) -> Path:
    """A proxy of Globus Toolkit 2; it has no attributes, so it ends at the caller's bounds when it verifies."""
    owner, path = rig.owners[0], rig.prefix / "proxies" / "older.pem"
    words = [
        "grid-proxy-init",
        "-old",
        "-q",
        "-bits",
        "2048",
        "-cert",
        owner.cert_path,
        "-key",
        owner.key_path,
        "-out",
        path,
    ]
    environ = {"PATH": "/usr/bin:/bin", "HOME": "/", "X509_CERT_DIR": str(rig.prefix / "grid" / "certificates")}
    subprocess.run(list(map(str, words)), env=environ, check=True, capture_output=True, timeout=120)
    return rig.give(path)


def garbage(rig: HelperRig) -> Path:
    path = rig.prefix / "proxies" / "garbage.pem"
    path.write_text("-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n")
    return rig.give(path)


ME = "{dn}"
CASES = [
    Case("the default policy finds a pool by the first attribute"),
    Case("the default policy takes the DN last", account=f"{POOL}03", grid=f'"{ME}" {POOL}03\n"/other" .{POOL}\n'),
    Case("by FQAN to an account", account=f"{POOL}04", grid=f'"/demo/Role=*" {POOL}04\n'),
    Case("DN before FQAN", account=f"{POOL}05", policy="dn, fqan", grid=f'"/demo" .{POOL}\n"{ME}" {POOL}05\n'),
    Case("accounts only", account=f"{POOL}05", policy="fqan-account, dn", grid=f'"{ANALYSIS}" .{POOL},{POOL}05\n'),
    Case("pools only", policy="fqan-pool", grid=f'"{ANALYSIS}" {POOL}05,.{POOL}\n'),
    Case("FQANs only", "NO_MAPPING", policy="fqan", grid=f'"{ME}" {POOL}05\n"/other" {POOL}06\n'),
    Case("DNs only", "NO_MAPPING", policy="dn", grid=f'"{ANALYSIS}" .{POOL}\n'),
    Case(
        "the VOMS map file",
        account=f"{POOL}06",
        grid=f'"{ANALYSIS}" {POOL}05\n',
        files={"voms_mapfile": f'"/demo/*" {POOL}06'},
        policy="fqan, fqan from grid_mapfile",
    ),
    Case("an earlier attribute wins", account=f"{POOL}02", proxy=production_first, grid=f'"/demo/*" {POOL}02\n'),
    Case(
        "groups of the FQANs",
        policy="fqan groups fqan require-primary",
        files={"groupmapfile": FQAN_GROUPS},
        proxy=both_groups,
        groups=(f"{POOL}11", f"{POOL}12"),
    ),
    Case(
        "groups of both",
        account=f"{POOL}05",
        grid=f'"/demo/*" {POOL}05\n',
        policy="fqan groups both",
        files={"groupmapfile": FQAN_GROUPS},
        groups=(f"{POOL}11", f"{POOL}05"),
    ),
    Case(
        "no primary group",
        "NO_MAPPING",
        policy="fqan groups fqan require-primary",
        files={"groupmapfile": FQAN_GROUPS},
        proxy=production_first,
        grid=f'"/demo/*" .{POOL}\n',
    ),
    Case(
        "the caller's group", "GROUP_FORBIDDEN", policy="fqan groups fqan", files={"groupmapfile": f'"/demo/*" {PILOT}'}
    ),
    Case(
        "the verifier's group",
        "GROUP_FORBIDDEN",
        policy="fqan groups both",
        files={"groupmapfile": f'"/demo/*" {VERIFIER}'},
    ),
    Case("root's group", "GROUP_FORBIDDEN", policy="fqan groups fqan", files={"groupmapfile": '"/demo/*" root'}),
    Case("no such group", "GROUP_UNKNOWN", policy="fqan groups fqan", files={"groupmapfile": '"/demo/*" pgt-none'}),
    Case("a pool of groups", "MAP_FILE_MALFORMED", policy="fqan groups fqan", files={"groupmapfile": '"/demo" .pool'}),
    Case("a policy that is none", "HELPER_CONFIG_INVALID", policy="fqan then dn"),
    Case("a pool that is empty", "POOL_EXHAUSTED", grid=f'"{ANALYSIS}" .{POOL}x\n'),
    Case(
        "an account that is not there",
        "ACCOUNT_UNKNOWN",
        grid='"/demo/*" pgt-none\n',
        caller="vos = demo\naccounts = *",
    ),
    Case("root", "ACCOUNT_FORBIDDEN", grid='"/demo/*" root\n', caller="vos = demo\naccounts = *"),
    Case("the caller", "ACCOUNT_FORBIDDEN", grid=f'"/demo/*" {PILOT}\n', caller="vos = demo\naccounts = *"),
    Case(
        "an account out of bounds",
        "CALLER_ACCOUNT_BOUNDS",
        grid=f'"/demo/*" {POOL}01\n',
        caller="vos = demo\naccounts = x*",
    ),
    Case("a VO out of bounds", "CALLER_VO_BOUNDS", caller=f"vos = other\naccounts = {POOL}*"),
    Case(
        "a group out of bounds",
        "CALLER_VO_BOUNDS",
        proxy=group_only,
        caller=f"vos = demo\nfqans = {ANALYSIS}\naccounts = *",
    ),
    Case("no attributes", "CALLER_VO_BOUNDS", proxy=plain),
    Case("no attributes, accepted", grid=f'"{ME}" .{POOL}', proxy=plain, caller=f"{NO_VO}\naccounts = {POOL}*"),
    Case(
        "no attributes, no account of its DN",
        "NO_MAPPING",
        proxy=plain,
        caller=f"{NO_VO}\naccounts = {POOL}*",
    ),
    Case("attributes where no VO is listed", "CALLER_VO_BOUNDS", caller=f"{NO_VO}\naccounts = {POOL}*"),
    Case("no attributes, any VO", "CALLER_VO_BOUNDS", proxy=plain, caller=f"vos = *\naccounts = {POOL}*"),
    Case("any VO", caller=f"vos = *\naccounts = {POOL}*"),
    Case("no attributes beside a VO", grid=f'"{ME}" .{POOL}', proxy=plain, caller=f"vos = demo\n{BOTH}"),
    Case("attributes beside none", caller=f"vos = demo\n{BOTH}"),
    Case("no VO by a word of a list", "CALLER_VO_BOUNDS", proxy=plain, caller="vos = demo none any\naccounts = *"),
    Case("an authority that is not trusted", "CHAIN_UNKNOWN_CA", proxy=foreign),
    Case("no proxy", "PROXY_MALFORMED", proxy=garbage),
    Case("a broken map file", "MAP_FILE_MALFORMED", grid=f'"{ANALYSIS}" .{POOL}\n"/demo\n'),
    Case("a banned DN", "OWNER_BANNED", files={"ban_file": f'"{ME}"'}),
    Case("a banned group", "OWNER_BANNED", files={"ban_file": '"/demo/*"'}),
    Case("an owner on the list", files={"allowed_users": f'"{ME}"'}),
    Case("an owner who is not on the list", "OWNER_NOT_LISTED", files={"allowed_users": '"/O=Toy Grid/CN=x"'}),
    Case("an open hour", files={"timeslots": NOW}),
    Case("a closed hour", "TIME_SLOT_CLOSED", files={"timeslots": NEVER}),
    Case("commands that are not read", "MAP_FILE_MALFORMED", files={"permitted_executables": "bin/sh"}),
    Case("a proxy that lives too long", "LIFETIME_TOO_LONG", more="max_proxy_lifetime_seconds = 3600"),
    Case("attributes that live too long", "VOMS_LIFETIME", more="max_voms_lifetime_seconds = 3600"),
    Case("lives that are short enough", more="max_proxy_lifetime_seconds = 90000\nmax_voms_lifetime_seconds = 90000"),
    Case("a proxy older than the RFC", "PROXY_LEGACY", proxy=older),
    Case("a proxy older than the RFC, accepted", "CALLER_VO_BOUNDS", proxy=older, more="legacy_proxies = accept"),
    Case("still the same account", account=f"{POOL}03", grid=f'"/demo/*" {POOL}03\n', wanted=f"{POOL}03"),
    Case("another account by now", "ACCOUNT_CHANGED", grid=f'"/demo/*" {POOL}03\n', wanted=f"{POOL}04"),
    Case("a lease that never was", "ACCOUNT_CHANGED", wanted=f"{POOL}03"),
]


@pytest.fixture
def released(rig: HelperRig) -> Iterator[HelperRig]:
    rig.release_all()
    yield rig
    rig.release_all()


def arrange(rig: HelperRig, case: Case, owner: str) -> str:
    """Write the case's files; return its lines of [map]."""
    lines = [f"policy = {case.policy}"] if case.policy else []
    for key, text in case.files.items():
        path = rig.etc / key
        path.write_text(text.replace(ME, owner) + "\n")
        path.chmod(0o644)
        lines.append(f"{key} = {path}")
    return "\n".join(lines)


def ask_anybody(rig: HelperRig, proxy: Path, words: list[str]) -> dict[str, object]:
    done = CliRunner().invoke(main, ["map", "--strict", "--config", str(rig.config), "--json", *words, str(proxy)])
    answer = json.loads(done.stdout)
    assert isinstance(answer, dict)
    return answer


def gids(names: tuple[str, ...]) -> list[int]:
    return [grp.getgrnam(name).gr_gid for name in names]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_dry_run_and_the_setuid_program_agree(released: HelperRig, case: Case) -> None:
    rig = released
    owner = rig.owners[0].dn
    proxy = case.proxy(rig)
    words = ["--account", case.wanted] if case.wanted else []
    mapping = arrange(rig, case, owner)
    with (
        rig.mapped(case.grid.replace(ME, owner)),
        rig.configured(
            more=case.more, mapping=mapping, change=lambda text: text[: text.index("vos = ")] + case.caller + "\n"
        ),
    ):
        done: Outcome = rig.run(verb="map", proxy=proxy, options=words)
        said = ask_anybody(rig, proxy, words)
    assert done.reason == said.get("reason", "") == case.reason, (done, said)
    if case.reason:
        assert done.line("refused")["number"] == said["number"]
        return
    line = done.line("map")
    for field in ("account", "uid", "gid", "groups", "lease", "dn"):
        assert line[field] == said[field]
    assert line["account"] == case.account or (not case.account and str(line["account"]).startswith(POOL))
    if case.groups:
        assert line["groups"] == gids(case.groups)
