"""The payload is the account and can be nothing else (checklist B, D)."""

import os
import pwd
import subprocess

import pytest

from support.helper_rig import ANALYSIS, EXTRA_GROUP, PILOT, POOL, SECOND_PILOT, VERIFIER, HelperRig

pytestmark = pytest.mark.root
SH = os.path.realpath("/bin/sh")


@pytest.mark.parametrize(
    ("account", "reason"),
    [
        ("root", "ACCOUNT_FORBIDDEN"),
        ("daemon", "ACCOUNT_FORBIDDEN"),
        (PILOT, "ACCOUNT_FORBIDDEN"),
        (VERIFIER, "ACCOUNT_FORBIDDEN"),
        ("nobody", "ACCOUNT_FORBIDDEN"),
        (SECOND_PILOT, "CALLER_ACCOUNT_BOUNDS"),
        ("pgt-no-such-account", "ACCOUNT_UNKNOWN"),
        (".pgt-no-such-pool", "POOL_EXHAUSTED"),
        ("0", "MAP_FILE_MALFORMED"),
        ("-1", "MAP_FILE_MALFORMED"),
        ("00", "MAP_FILE_MALFORMED"),
        ("+5", "MAP_FILE_MALFORMED"),
        ("4294967295", "MAP_FILE_MALFORMED"),
        ("5x", "ACCOUNT_UNKNOWN"),
    ],
)
def test_a_map_line_cannot_name_a_forbidden_account(rig: HelperRig, account: str, reason: str) -> None:
    with rig.mapped(f'"{ANALYSIS}" {account}\n'):
        done = rig.run("/usr/bin/id")
    assert (done.code, done.reason, done.out) == (203, reason, "")


def test_an_account_with_a_system_group_is_refused(rig: HelperRig) -> None:
    with rig.configured("", change=lambda text: text.replace("min_gid = 1000", "min_gid = 4000000")):
        assert rig.run("/usr/bin/id").reason == "GROUP_FORBIDDEN"


def test_nothing_is_leased_by_a_refusal(rig: HelperRig) -> None:
    rig.release_all()
    with rig.configured("", change=lambda text: text.replace("min_uid = 1000", "min_uid = 4000000")):
        assert rig.run("/usr/bin/id", proxy=rig.proxy(2)).reason == "ACCOUNT_FORBIDDEN"
    with rig.configured("", change=lambda text: text.replace(f"accounts = {POOL}*", "accounts = other*")):
        assert rig.run("/usr/bin/id", proxy=rig.proxy(2)).reason == "CALLER_ACCOUNT_BOUNDS"
    assert {path.name for path in rig.gridmapdir.glob("[!.]*")} == {*rig.pools}


def test_root_itself_has_no_payloads(rig: HelperRig) -> None:
    done = rig.run("/usr/bin/id", user="root")
    assert (done.code, done.reason) == (203, "CALLER_NOT_ALLOWED")


def test_an_account_without_a_section_may_not_call(rig: HelperRig) -> None:
    done = rig.run("/usr/bin/id", user=SECOND_PILOT)
    assert (done.code, done.reason) == (203, "CALLER_NOT_ALLOWED")


def test_a_caller_is_bound_to_its_vos_and_groups(rig: HelperRig) -> None:
    with rig.mapped(f'"/*" .{POOL}\n'):
        done = rig.run("/usr/bin/id", proxy=rig.proxy(vo="other", fqans=("/other",)))
        assert (done.code, done.reason) == (203, "CALLER_VO_BOUNDS")
        with rig.configured(change=lambda text: text + "fqans = /demo/Role=production\n"):
            assert rig.run("/usr/bin/id").reason == "CALLER_VO_BOUNDS"
        with rig.configured(change=lambda text: text + "fqans = /demo\n"):
            assert rig.run("/usr/bin/id").code == 0


def without_vo(text: str) -> str:
    return text.replace("vos = demo\n", "without_vo = yes\n")


def test_a_proxy_without_a_vo_runs_only_where_the_caller_may_bring_such(rig: HelperRig) -> None:
    owner = rig.owners[0]
    proxy = rig.plain_proxy(owner, "without-a-vo.pem")
    with rig.mapped(f'"{owner.dn}" .{POOL}\n"/demo" .{POOL}\n'):
        for vos in ("demo", "*", "demo *", "none", "any"):
            with rig.configured(change=lambda text, vos=vos: text.replace("vos = demo", f"vos = {vos}")):  # type: ignore[misc]
                assert rig.run("/usr/bin/id", proxy=proxy).reason == "CALLER_VO_BOUNDS"
        with rig.configured(change=lambda text: without_vo(text).replace("= yes", "= no") + "vos = demo\n"):
            assert rig.run("/usr/bin/id", proxy=proxy).reason == "CALLER_VO_BOUNDS"
        before = len(rig.audit())
        with rig.configured(change=without_vo):
            done = rig.run("/usr/bin/id", "-un", proxy=proxy)
            assert (done.code, done.out.strip() in rig.pools) == (0, True)
            assert (done.line("start")["dn"], done.line("start")["fqan"]) == (owner.dn, "")
            assert [(line["event"], line["vo"], line["fqan"]) for line in rig.since(before)] == [
                ("START", "", ""),
                ("END", "", ""),
            ]
            # It opens no VO, and the accounts stay bounded.
            assert rig.run("/usr/bin/id").reason == "CALLER_VO_BOUNDS"
        with rig.configured(change=lambda text: without_vo(text).replace(f"accounts = {POOL}*", "accounts = other*")):
            assert rig.run("/usr/bin/id", proxy=proxy).reason == "CALLER_ACCOUNT_BOUNDS"


@pytest.mark.parametrize("line", ["", "without_vo = no", "without_vo = perhaps", "without_vo =", "without_vo = Yes"])
def test_a_caller_without_vos_is_no_caller_by_default(rig: HelperRig, line: str) -> None:
    with rig.configured(change=lambda text: text.replace("vos = demo", line)):
        done = rig.run("/usr/bin/id")
    assert (done.code, done.reason) == (202, "HELPER_CONFIG_INVALID")


def test_any_vo_is_said_by_an_asterisk(rig: HelperRig) -> None:
    with rig.mapped(f'"/*" .{POOL}\n'), rig.configured(change=lambda text: text.replace("vos = demo", "vos = *")):
        for vo in ("demo", "other"):
            assert rig.run("/usr/bin/id", proxy=rig.proxy(vo=vo, fqans=(f"/{vo}",))).code == 0


def test_the_payload_has_exactly_the_accounts_groups(rig: HelperRig) -> None:
    done = rig.run("/usr/bin/id", "-G")
    account = pwd.getpwnam(str(done.line("start")["account"]))
    assert {int(gid) for gid in done.out.split()} == set(os.getgrouplist(account.pw_name, account.pw_gid))
    names = subprocess.run(["id", "-Gn", PILOT], capture_output=True, text=True, check=True).stdout.split()
    assert EXTRA_GROUP in names, "the pilot has a group that the payload must not get"


def test_no_way_leads_back(rig: HelperRig) -> None:
    done = rig.run(rig.attack("regain"))
    assert (done.code, done.out) == (0, "")


def test_all_eight_ids_are_the_accounts(rig: HelperRig) -> None:
    done = rig.run("/usr/bin/grep", "-E", "^(Uid|Gid|Cap|NoNewPrivs)", "/proc/self/status")
    start = done.line("start")
    fields = {name: value.split() for name, value in (line.split(":") for line in done.out.splitlines())}
    assert fields["Uid"] == [str(start["uid"])] * 4
    assert fields["Gid"] == [str(start["gid"])] * 4
    assert fields["NoNewPrivs"] == ["1"]
    assert all(int(fields[name][0], 16) == 0 for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"))


def test_a_relative_command_is_refused_and_the_path_is_constant(rig: HelperRig) -> None:
    done = rig.run("id", environment={"PATH": "/tmp:/usr/bin"})
    assert (done.code, done.reason) == (201, "HELPER_USAGE")


@pytest.mark.parametrize(
    ("command", "code"),
    [("/nonexistent/program", 201), ("/etc/passwd", 126), ("/etc", 201), ("/usr/bin/python3", 201)],
)
def test_a_command_that_cannot_run_is_said_so(rig: HelperRig, command: str, code: int) -> None:
    before = len(rig.audit())
    done = rig.run(command)
    assert (done.code, done.reason) == (code, "COMMAND_UNUSABLE")
    assert [line["event"] for line in rig.since(before)] == ["START", "END"]
    assert rig.left() == []


OPTIONS = [
    ["frobnicate"],
    ["run"],
    ["run", "--proxy"],
    ["run", "--proxy", "P", "--"],
    ["run", "--proxy", "P", "--proxy", "P", "--", "/usr/bin/id"],
    ["run", "--proxy", "P", "--config", "/tmp/x", "--", "/usr/bin/id"],
    ["run", "--proxy", "P", "--status-fd", "1", "--", "/usr/bin/id"],
    ["run", "--proxy", "P", "--status-fd", "99", "--", "/usr/bin/id"],
    ["run", "--proxy", "P", "--status-fd", "3x", "--", "/usr/bin/id"],
    ["run", "--proxy", "P", "--target-proxy", "/tmp/x", "--", "/usr/bin/id"],
    ["run", "--proxy", "P", "--job-id", "x" * 129, "--", "/usr/bin/id"],
    ["run", "--", "/usr/bin/id"],
    ["run", "--proxy=P", "--", "/usr/bin/id"],
    ["map", "--proxy", "P", "--job-id", "x"],
    ["map", "--proxy", "P", "--", "/usr/bin/id"],
    ["check-config", "--config", "/tmp/x"],
    ["--version", "x"],
]


@pytest.mark.parametrize("arguments", OPTIONS, ids=lambda words: " ".join(words)[:40])
def test_no_other_option_exists(rig: HelperRig, arguments: list[str]) -> None:
    process = rig.start([str(rig.proxy()) if word == "P" else word for word in arguments])
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out) == (201, b"")
    assert err.startswith(b"pilotage-exec: refused: HELPER_USAGE (500): ")
