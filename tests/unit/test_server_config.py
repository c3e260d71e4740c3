"""The server's configuration: each mistake is told with its place, and nothing is guessed."""

import re
from pathlib import Path

import pytest

from pilotage.errors import PilotageError
from pilotage.reasons import Reason
from pilotage_server import keys
from pilotage_server.config import (
    Config,
    CredentialsSection,
    RetrievalSection,
    RetrievalTable,
    check_files,
    load,
    parse,
)
from pilotage_server.jobs.limits import JobLimits, LeaseTimes
from pilotage_server.retrieval import BUILT_IN, PLAIN
from support.desks import PILOT

GOOD = """
[server]
state_dir = "/var/lib/pilotage"
listen = "127.0.0.1:7643"
audience = "pilotage://localhost:7643"
host_cert = "/etc/grid-security/hostcert.pem"
host_key = "/etc/grid-security/hostkey.pem"
ca_dir = "/etc/grid-security/certificates"
[roles]
pilot = ["/demo/Role=pilot"]
owner = ["/demo"]
"""


def mistake(text: str) -> str:
    with pytest.raises(PilotageError) as caught:
        parse(text.encode(), "server.toml")
    assert caught.value.reason is Reason.CONFIG_INVALID
    assert caught.value.message.startswith("server.toml: ")
    return caught.value.message


def good(text: str = "") -> Config:
    return parse((GOOD + text).encode(), "server.toml")


def test_a_role_that_is_no_name_is_told_with_its_place() -> None:
    assert mistake(GOOD.replace("/demo/Role=pilot", "demo")).startswith("server.toml: roles: a role is a DN or an FQAN")


def test_a_small_configuration_has_the_documented_defaults() -> None:
    config = good()
    assert config.server.listen_mutual == ""
    assert config.server.log == "json"
    assert config.roles.admin == ()
    assert isinstance(config.limits, JobLimits)
    assert isinstance(config.leases, LeaseTimes)
    assert (config.leases.sent_seconds, config.leases.lease_seconds, config.leases.heartbeat_seconds) == (90, 180, 20)
    assert (config.metrics.port, config.metrics.address) == (None, "127.0.0.1")


def test_the_example_is_a_configuration_and_its_commented_lines_are_the_defaults() -> None:
    text = (Path(__file__).parents[2] / "deploy" / "server.toml").read_text()
    config = parse(text.encode(), "server.toml")
    assert (config.credentials, config.retrieval) == (CredentialsSection(), RetrievalSection())
    shown, _, examples = text.partition("# [retrieval.vo.atlas]")
    said = parse(re.sub(r"(?m)^# (?=[a-z_]+ = )", "", shown).encode(), "server.toml")
    assert said.credentials == config.credentials
    assert said.retrieval.default == RetrievalTable(
        proxy=BUILT_IN.proxy,
        path_length=BUILT_IN.path_length,
        max_lifetime_seconds=BUILT_IN.max_lifetime_seconds,
        targets=BUILT_IN.targets,
    )
    whole = shown + re.sub(r"(?m)^# ", "", "# [retrieval.vo.atlas]" + examples)
    policy = parse(whole.encode(), "server.toml").retrieval_policy()
    admitted = policy.admitted(PILOT)
    assert (admitted.refused([]), admitted.refused(["atlas"]), admitted.refused(["other"])) == (PLAIN, "atlas", None)


def test_sections_change_what_they_name_and_nothing_else() -> None:
    config = good("[limits]\ncores = 8\n[leases]\nlease_seconds = 60\n[credentials]\nkey_pool = 0\n")
    assert (config.limits.cores, config.leases.lease_seconds, config.credentials.key_pool) == (8, 60, 0)
    assert config.limits.disk_bytes == JobLimits().disk_bytes


@pytest.mark.parametrize(
    ("old", "new", "place"),
    [
        ("[roles]", "[rolls]", "rolls"),
        ("audience", "audiance", "audiance"),
        ('listen = "127.0.0.1:7643"', "listen = 7643", "$.server.listen"),
        ('listen = "127.0.0.1:7643"', 'listen = "localhost"', "server.listen"),
        ('listen = "127.0.0.1:7643"', 'listen = "127.0.0.1:99999"', "server.listen"),
        ('listen = "127.0.0.1:7643"', 'listen = ""', "server.listen"),
        ('"/var/lib/pilotage"', '"pilotage"', "server.state_dir"),
        ('"/var/lib/pilotage"', '""', "$.server.state_dir"),
        ('"pilotage://localhost:7643"', '""', "server.audience"),
        ('owner = ["/demo"]', "owner = []", "roles.owner"),
        ('owner = ["/demo"]', 'owner = "/demo"', "$.roles.owner"),
        ('pilot = ["/demo/Role=pilot"]', "", "pilot"),
        ("[server]", "[server", "server.toml"),
        ("[roles]", "[limits]\ncores = 0\n[roles]", "limits.cores"),
        ("[roles]", '[limits]\ncores = "8"\n[roles]', "$.limits.cores"),
        ("[roles]", "[limits]\ncoars = 8\n[roles]", "coars"),
        ("[roles]", "[leases]\nlease_seconds = 30\n[roles]", "leases.heartbeat_seconds"),
        ("[roles]", "[credentials]\ncheck_seconds = -1\n[roles]", "credentials.check_seconds"),
        ("[roles]", '[gateway]\nlisten = "7512"\n[roles]', "gateway.listen"),
        ("[roles]", '[gateway]\ntrusted_retrievers = "*"\n[roles]', "$.gateway.trusted_retrievers"),
        ("[roles]", '[gateway]\ntrusted_retriever = ["*"]\n[roles]', "trusted_retriever"),
        ("[roles]", "[metrics]\nport = 70000\n[roles]", "metrics.port"),
        ("[roles]", "[metrics]\nport = -1\n[roles]", "metrics.port"),
        ("[roles]", '[metrics]\naddress = "localhost"\n[roles]', "metrics.address"),
        ("[roles]", "[gateway]\nmax_usernames = 0\n[roles]", "gateway.max_usernames"),
        (
            "[roles]",
            '[gateway]\ntrusted_retrievers = ["*"]\ndefault_trusted_retrievers = ["*"]\n[roles]',
            "gateway.trusted_retrievers",
        ),
    ],
)
def test_a_mistake_is_told_with_its_place(old: str, new: str, place: str) -> None:
    assert old in GOOD
    assert place in mistake(GOOD.replace(old, new, 1))


def test_a_role_that_is_neither_dn_nor_fqan_is_a_mistake() -> None:
    with pytest.raises(PilotageError, match="CONFIG_INVALID"):
        parse(GOOD.replace('"/demo"', '"demo"').encode(), "server.toml")


def test_files_that_are_not_there_are_told(tmp_path: Path) -> None:
    with pytest.raises(PilotageError, match="cannot be read"):
        load(tmp_path / "none.toml")
    text = GOOD.replace("/etc/grid-security/certificates", str(tmp_path / "none"))
    with pytest.raises(PilotageError, match=r"server\.ca_dir"):
        check_files(parse(text.encode(), "server.toml"))


def test_a_policy_for_a_vo_that_the_server_does_not_know_is_told(tmp_path: Path) -> None:
    text = GOOD.replace("/etc/grid-security/certificates", str(tmp_path)).replace(
        "[roles]", f'voms_dir = "{tmp_path}"\n[roles]'
    )
    text += '[retrieval.vo.demo]\nproxy = "limited"\n'
    with pytest.raises(PilotageError, match=r"retrieval\.vo\.demo: server\.voms_dir has no directory of this VO"):
        check_files(parse(text.encode(), "server.toml"))
    (tmp_path / "demo").mkdir()
    check_files(parse(text.encode(), "server.toml"))


# keys


def test_keys_are_made_once_private_and_all_different(tmp_path: Path) -> None:
    assert sorted(keys.make_missing(tmp_path / "keys")) == sorted(keys.NAMES)
    before = {path.name: path.read_bytes() for path in (tmp_path / "keys").iterdir()}
    assert keys.make_missing(tmp_path / "keys") == []
    assert before == {path.name: path.read_bytes() for path in (tmp_path / "keys").iterdir()}
    assert len(set(before.values())) == len(keys.NAMES)
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "keys").iterdir()} == {0o600}
    assert (tmp_path / "keys").stat().st_mode & 0o777 == 0o700
    assert repr(keys.load(tmp_path / "keys")) == "Keys(***)"


@pytest.mark.parametrize("spoil", ["mode", "short", "long", "folder", "fifo", "missing"])
def test_a_key_file_that_is_not_private_and_whole_is_refused(tmp_path: Path, spoil: str) -> None:
    import os

    keys.make_missing(tmp_path)
    path = tmp_path / "wrap.key"
    if spoil == "mode":
        path.chmod(0o604)
    elif spoil in ("short", "long"):
        path.write_bytes(b"x" * (31 if spoil == "short" else 33))
    else:
        path.unlink()
        if spoil == "folder":
            path.mkdir(0o700)
        elif spoil == "fifo":
            os.mkfifo(path, 0o600)
    with pytest.raises(PilotageError, match="CONFIG_INVALID"):
        keys.load(tmp_path)
