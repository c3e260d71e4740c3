"""The policy of `[map]`, groups by FQAN and LCAS's files, tried by anybody with `pilotage-helper map`.

The proxy is alice's, with the FQANs /demo/Role=analysis and /demo; groups and accounts are those that every Debian has.
"""

import grp

import pytest

from support.map_site import Site

ALICE = '"/O=Test Grid/CN=alice"'


def gid(name: str) -> int:
    return grp.getgrnam(name).gr_gid


@pytest.mark.parametrize(
    ("policy", "account"),
    [
        ("fqan, dn", "bin"),
        ("dn, fqan", "daemon"),
        ("fqan-account from voms_mapfile, dn", "sys"),
        ("fqan from voms_mapfile, fqan from grid_mapfile, dn", "sys"),
        ("fqan from grid_mapfile, fqan from voms_mapfile, dn", "bin"),
        ("dn-account", "daemon"),
    ],
)
def test_the_order_of_the_steps_decides(site: Site, policy: str, account: str) -> None:
    site.map(f'{ALICE} daemon\n"/demo" bin\n')
    more = [f"policy = {policy}"]
    if "voms_mapfile" in policy:
        more.append(site.file("voms_mapfile", '"/demo" sys'))
    site.configure("\n".join(more))
    assert site.answer().get("account") == account


def test_attributes_are_looked_up_in_the_voms_mapfile_where_it_is_configured(site: Site) -> None:
    site.map(f'{ALICE} daemon\n"/demo" bin\n')
    site.configure(site.file("voms_mapfile", '"/demo" sys'))
    assert site.answer()["account"] == "sys"
    site.file("voms_mapfile", '"/other" sys')
    assert site.answer()["account"] == "daemon"
    site.file("voms_mapfile", "broken")
    assert site.answer()["reason"] == "MAP_FILE_MALFORMED"


@pytest.mark.parametrize(
    ("lines", "groups", "expected"),
    [
        ('"/demo/Role=analysis" sys\n"/demo" bin', "fqan", ["sys", "bin"]),
        ('"/demo" bin\n"/demo/Role=analysis" sys', "fqan", ["sys", "bin"]),
        ('"/demo/*" sys\n"/demo" bin,adm', "fqan", ["sys", "bin"]),
        ('"/demo" bin', "fqan", ["daemon", "bin"]),
        ('"/demo" bin', "both", ["daemon", "bin"]),
        ('"/demo/Role=analysis" sys', "both", ["sys", "daemon"]),
        ('"/demo/Role=analysis" sys\n"/demo" sys', "fqan", ["sys"]),
    ],
)
def test_attributes_give_groups(site: Site, lines: str, groups: str, expected: list[str]) -> None:
    site.map('"/demo" daemon\n')
    site.configure(f"{site.file('groupmapfile', lines)}\npolicy = fqan groups {groups}")
    answer = site.answer()
    assert (answer["gid"], answer["groups"]) == (gid(expected[0]), [gid(name) for name in expected])


@pytest.mark.parametrize(
    ("lines", "words", "reason"),
    [
        ('"/demo" bin', "fqan groups fqan require-primary", "NO_MAPPING"),
        ('"/demo" root', "fqan groups fqan", "GROUP_FORBIDDEN"),
        ('"/demo" nogroup', "fqan groups fqan", "GROUP_FORBIDDEN"),
        ('"/demo" no-such-group', "fqan groups fqan", "GROUP_UNKNOWN"),
        ('"/demo" .pool', "fqan groups fqan", "MAP_FILE_MALFORMED"),
        (f"{ALICE} bin", "fqan groups fqan", "MAP_FILE_MALFORMED"),
        ('"/demo" bin', "fqan", "HELPER_CONFIG_INVALID"),
        ('"/demo" bin', "fqan groups all", "HELPER_CONFIG_INVALID"),
        ('"/demo" bin', "fqan-pool groups fqan", "HELPER_CONFIG_INVALID"),
    ],
)
def test_groups_that_cannot_be_are_refused(site: Site, lines: str, words: str, reason: str) -> None:
    site.configure(f"{site.file('groupmapfile', lines)}\npolicy = {words}")
    assert site.answer()["reason"] == reason


def test_the_callers_own_group_is_never_a_payloads(site: Site) -> None:
    callers = "[caller bin]\nvos = demo\naccounts = *\n"
    lines = site.file("groupmapfile", '"/demo" bin') + "\npolicy = fqan groups both"
    site.configure(lines, callers)
    assert site.answer()["reason"] == "GROUP_FORBIDDEN"
    site.file("groupmapfile", '"/demo" sys')
    assert site.answer()["account"] == "daemon"


@pytest.mark.parametrize(
    ("key", "text", "reason"),
    [
        ("allowed_users", ALICE, ""),
        ("allowed_users", "# nobody", "OWNER_NOT_LISTED"),
        ("allowed_users", '"/O=Test Grid/CN=*"', "OWNER_NOT_LISTED"),
        ("allowed_users", '"/demo"', "MAP_FILE_MALFORMED"),
        ("ban_file", '"/demo"', "OWNER_BANNED"),
        ("ban_file", '"/demo/Role=*"', "OWNER_BANNED"),
        ("ban_file", '"/O=Test Grid/*"', "OWNER_BANNED"),
        ("ban_file", '"/dem*"', ""),
        ("timeslots", "* * * * * *", ""),
        ("timeslots", "* * * * 1999-2000 *", "TIME_SLOT_CLOSED"),
        ("timeslots", "* * * * * *\n* 18-7 * * * *", "MAP_FILE_MALFORMED"),
        ("permitted_executables", "/bin/sh", ""),
        ("permitted_executables", "bin/sh", "MAP_FILE_MALFORMED"),
    ],
)
def test_the_gates_are_asked_before_the_map(site: Site, key: str, text: str, reason: str) -> None:
    site.configure(site.file(key, text))
    assert site.answer().get("reason", "") == reason
    site.configure(f"{key} = {site.root / 'missing'}")
    assert site.answer()["reason"] == "MAP_FILE_UNUSABLE"
    assert "MAP_FILE_UNUSABLE" in site.check().stderr


def test_a_time_slot_is_judged_at_the_time_that_is_asked_about(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    # Of the variable nothing is seen: the helper has no environment.
    monkeypatch.setenv("TZ", "Pacific/Kiritimati")
    site.configure(site.file("timeslots", "* * * * 2000 *"))
    done = site.answer()
    assert done["reason"] == "TIME_SLOT_CLOSED"
    assert site.check().exit_code == 0
    assert "+1400" not in str(done["message"])


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("/usr/bin/python3", ""),
        ("/opt/demo/bin/run", ""),
        ("", ""),
        ("/usr/bin/python3.11", "COMMAND_FORBIDDEN"),
        ("/opt/demo/../../bin/sh", "COMMAND_FORBIDDEN"),
        ("/opt/demo//run", "COMMAND_FORBIDDEN"),
        ("python3", "COMMAND_FORBIDDEN"),
    ],
)
def test_a_command_must_be_permitted(site: Site, command: str, reason: str) -> None:
    site.configure(site.file("permitted_executables", "/usr/bin/python3\n/opt/*/\n"))
    assert site.answer("--command", command).get("reason", "") == reason


def test_check_config_reads_every_file_of_the_section(site: Site) -> None:
    files = {
        "voms_mapfile": '"/demo" daemon',
        "groupmapfile": '"/demo" bin',
        "ban_file": '"/x"',
        "allowed_users": ALICE,
        "timeslots": "* * * * * *",
        "permitted_executables": "/bin/sh",
    }
    keys = "\n".join(site.file(key, text) for key, text in files.items())
    site.configure(f"{keys}\npolicy = fqan groups both, dn")
    assert site.check().exit_code == 0
    for key, text in files.items():
        site.file(key, f"{text}\nbroken here\n# comment\n{text}\n//\n")
        assert f"{site.root / key}: 2 broken, lines 2 5" in site.check().stderr
        assert site.answer()["reason"] == "MAP_FILE_MALFORMED"
        site.file(key, text)


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ("max_proxy_lifetime_seconds = 86400\nmax_voms_lifetime_seconds = 86400", ""),
        ("max_proxy_lifetime_seconds = 3600", "LIFETIME_TOO_LONG"),
        ("max_voms_lifetime_seconds = 3600", "VOMS_LIFETIME"),
        ("max_voms_lifetime_seconds = 0", "HELPER_CONFIG_INVALID"),
        ("max_proxy_lifetime_seconds = 12h", "HELPER_CONFIG_INVALID"),
    ],
)
def test_a_site_bounds_the_life_of_proxies_and_attributes(site: Site, more: str, reason: str) -> None:
    site.configure(more=more)
    assert site.answer().get("reason", "") == reason
