"""`pilotage credential` with what people mistype, and with what a service allows less of than they want."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from toygrid import Identity, ToyGrid

from support.server_rig import Rig
from support.shell import Shell

DAY = 86400
NOBODYS = "00000000-0000-0000-0000-000000000000"


@pytest.fixture
def shell(rig: Rig, alice_proxy: Path, tmp_path: Path) -> Shell:
    return Shell(rig, alice_proxy, tmp_path / "home")


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "-1", "0", "1e12", "1e300", "two", ""])
@pytest.mark.parametrize("words", [["delegate"], ["import", "--from-myproxy", "localhost:1"]])
def test_a_life_that_is_none_is_a_usage_error(shell: Shell, words: list[str], text: str) -> None:
    done = shell.run("credential", *words, "--hours", text, typed="secret\n")
    assert (done.code, done.out) == (2, "")
    assert "--hours" in done.err


@pytest.mark.parametrize("text", ["nan", "inf", "-1", "0", "1e12"])
def test_a_life_that_is_none_is_told_of_the_configuration_too(shell: Shell, text: str) -> None:
    done = shell.run("credential", "delegate", environ={"PILOTAGE_CREDENTIAL__HOURS": text})
    assert (done.code, "CONFIG_INVALID" in done.err) == (2, True), done.err


def test_of_several_credentials_all_that_can_be_are_destroyed_and_the_rest_is_named(shell: Shell) -> None:
    ids = [shell.ok("credential", "delegate", "--key", "ec", "--name", name).strip() for name in ("a", "b")]
    done = shell.run("credential", "destroy", "a", NOBODYS, "nothing", ids[1])
    assert done.code == 3
    lines = done.err.splitlines()
    assert f"pilotage: {NOBODYS} is NOT destroyed: CREDENTIAL_NOT_FOUND" in lines
    assert "pilotage: nothing is NOT destroyed: CREDENTIAL_NOT_FOUND" in lines
    for credential_id in ids:
        assert f"pilotage: {credential_id} is destroyed" in lines
        assert "destroyed" in shell.ok("credential", "show", credential_id)
    assert shell.ok("credential", "list") == ""


@pytest.fixture
def careful(make_rig: Callable[..., Rig], alice: Identity, tmp_path: Path) -> Shell:
    """Alice, with her certificate of 30 days, at a service that keeps nothing for more than one."""
    both = tmp_path / "both.pem"
    both.write_bytes(alice.cert_path.read_bytes() + alice.key_path.read_bytes())
    both.chmod(0o600)
    rig = make_rig(roles={"owner": [alice.dn]}, credentials={"max_lifetime_seconds": DAY})
    return Shell(rig, both, tmp_path / "home")


def test_what_nobody_asked_for_is_made_as_long_as_the_service_allows(careful: Shell) -> None:
    """The usual week would be refused at every submission."""
    done = careful.run("submit", "--", "/bin/true")
    assert done.code == 0, done.err
    (line,) = done.err.splitlines()
    assert "delegated credential" in line
    assert careful.run("credential", "delegate", "--key", "ec").code == 0
    assert len(json.loads(careful.ok("credential", "list", "--json"))) == 2


def test_what_was_asked_for_is_given_or_refused(careful: Shell) -> None:
    assert careful.run("credential", "delegate", "--key", "ec", "--hours", "23.9").code == 0
    done = careful.run("credential", "delegate", "--key", "ec", "--hours", "48")
    assert (done.code, done.err) == (4, "pilotage: LIFETIME_TOO_LONG: The proxy may live for at most 24 hours here.\n")


def test_each_vo_and_role_has_a_credential_of_its_own(
    shell: Shell, grid: ToyGrid, alice: Identity, tmp_path: Path
) -> None:
    """A job runs with what its submitter had at the time, and never with another role that is stored as well."""
    production = ("/demo/production", "/demo/Role=analysis")
    other = {"X509_USER_PROXY": str(grid.voms_proxy(alice, tmp_path / "production", fqans=production))}
    runs = [shell.run("submit", "--", "/bin/true", environ=environ) for environ in ({}, other, {}, other)]
    assert ["delegated" in done.err for done in runs] == [True, True, False, False]
    jobs = [json.loads(shell.ok("show", done.out.strip(), "--json")) for done in runs]
    assert [job["fqan"] for job in jobs] == ["/demo/Role=analysis", "/demo/production"] * 2
    used = [job["credential_id"] for job in jobs]
    assert used[:2] == used[2:]
    assert used[0] != used[1]
    found = {one["credential_id"]: one["fqans"] for one in json.loads(shell.ok("credential", "list", "--json"))}
    assert found == {used[0]: ["/demo/Role=analysis", "/demo"], used[1]: list(production)}


FORMS = {
    "rsa": ["-traditional"],
    "ec": ["-traditional"],
    "rsa pkcs8": [],
    "ec pkcs8": [],
}


@pytest.mark.parametrize("form", FORMS)
def test_a_credential_is_delegated_from_a_certificate_with_an_encrypted_key_of_any_kind(
    make_rig: Callable[..., Rig], grid: ToyGrid, alice_proxy: Path, tmp_path: Path, form: str
) -> None:
    who = grid.user(f"Holder of {form}", key=form.split()[0])
    shell = Shell(make_rig(roles={"owner": [who.dn]}), alice_proxy, tmp_path / "home")
    key = tmp_path / "key.pem"
    command: list[str | Path] = ["openssl", "pkey", "-in", who.key_path, "-aes256", "-out", key, *FORMS[form]]
    subprocess.run([*command, "-passout", "pass:open sesame"], check=True, capture_output=True)
    key.chmod(0o600)
    words = ("credential", "delegate", "--from", str(who.cert_path), "--from-key", str(key))
    done = shell.run(*words, typed="open sesame\n")
    assert done.code == 0, done.err
    assert done.err.count("Pass phrase") == 1
    assert "open sesame" not in done.out + done.err
    wrong = shell.run(*words, typed="guess\n")
    assert (wrong.code, "the pass phrase does not open it" in wrong.err) == (4, True)
