"""`pilotage doctor`: each thing that can be wrong is found, and something to type is said."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from toygrid import Identity, ToyGrid

from support.ports import free_port
from support.server_rig import OWNER_ROLE, Rig
from support.shell import Shell


class Said(msgspec.Struct, frozen=True):
    """A finding as the program tells it."""

    subject: str
    name: str
    level: str
    text: str
    next: str


class Report(msgspec.Struct, frozen=True):
    """The whole document."""

    findings: list[Said]
    errors: int
    warnings: int

    def bad(self) -> list[tuple[str, str]]:
        """Return subject and level of what is not well."""
        return [(one.subject, one.level) for one in self.findings if one.level != "ok"]

    def one(self, subject: str, level: str) -> Said:
        """Return the only finding of this subject and level."""
        (found,) = [one for one in self.findings if (one.subject, one.level) == (subject, level)]
        return found


def ask(shell: Shell, *words: str, environ: dict[str, str] | None = None) -> Report:
    """Run the doctor; its exit code agrees with what it found, and what is not well has something to type."""
    done = shell.run("doctor", "--json", *words, environ=environ)
    report = msgspec.json.decode(done.out, type=Report)
    assert done.code == (1 if report.errors else 0)
    assert report.errors == sum(level == "error" for _, level in report.bad())
    assert report.warnings == sum(level == "warning" for _, level in report.bad())
    for one in report.findings:
        assert bool(one.next) is (one.level != "ok"), one
    return report


@pytest.fixture
def shell(rig: Rig, alice_proxy: Path, tmp_path: Path) -> Shell:
    return Shell(rig, alice_proxy, tmp_path / "alice")


@pytest.fixture
def copy(alice_proxy: Path, tmp_path: Path) -> Path:
    path = tmp_path / "proxy"
    path.write_bytes(alice_proxy.read_bytes())
    path.chmod(0o600)
    return path


def test_a_healthy_owner_hears_what_is_used(shell: Shell, alice: Identity, alice_proxy: Path, rig: Rig) -> None:
    shell.ok("submit", "--time", "1h", "--", "/bin/true")
    report = ask(shell)
    assert [one for one in report.bad() if one[0] not in ("credential", "attributes")] == []
    assert alice.dn in report.one("identity", "ok").text
    assert str(alice_proxy) in report.one("identity", "ok").name
    assert report.one("server", "ok").name == rig.target
    assert "owner" in report.one("login", "ok").text
    assert report.one("retrieval keys", "ok").text == "1 keys"
    done = shell.run("doctor")
    assert done.code == 0
    assert f"ok      server         {rig.target}: answers" in done.out
    assert "0 errors" in done.err


def test_nothing_secret_is_told(shell: Shell) -> None:
    shell.ok("submit", "--", "/bin/true")
    (key,) = (shell.home / ".local" / "share" / "pilotage" / "retrieval-keys").iterdir()
    done = shell.run("doctor", "--json")
    assert key.read_bytes().hex() not in done.out
    assert "PRIVATE" not in done.out


def test_a_proxy_that_others_can_read_is_found(shell: Shell, copy: Path) -> None:
    copy.chmod(0o644)
    report = ask(shell, environ={"X509_USER_PROXY": str(copy)})
    found = report.one("identity", "error")
    assert found.text.endswith("others may use it (mode 0644)")
    assert found.next == f"chmod 600 {copy}"
    # The server is still looked at, as far as that goes without an identity.
    assert report.one("server", "ok")
    assert not any(one.subject == "login" for one in report.findings)


def test_a_missing_or_short_or_limited_proxy_is_found(
    shell: Shell, grid: ToyGrid, alice: Identity, tmp_path: Path
) -> None:
    missing = ask(shell, environ={"X509_USER_PROXY": str(tmp_path / "absent")}).one("identity", "error")
    assert "voms-proxy-init -rfc" in missing.next
    short = grid.voms_proxy(alice, tmp_path / "short", fqans=(OWNER_ROLE,), hours=1)
    report = ask(shell, environ={"X509_USER_PROXY": str(short)})
    assert report.one("identity", "warning").text.endswith("min)")
    limited = grid.voms_proxy(alice, tmp_path / "limited", fqans=(OWNER_ROLE,), limited=True)
    found = ask(shell, environ={"X509_USER_PROXY": str(limited)}).one("identity", "error")
    assert "limited" in found.text


def test_a_caller_without_attributes_or_role_is_told_which_are_missing(
    shell: Shell, grid: ToyGrid, alice: Identity, tmp_path: Path
) -> None:
    plain = grid.plain_proxy(alice, tmp_path / "plain")
    report = ask(shell, environ={"X509_USER_PROXY": str(plain)})
    assert "no VOMS attributes" in report.one("attributes", "warning").text
    assert "no role" in report.one("login", "error").text
    assert "voms-proxy-init" in report.one("login", "error").next


def test_an_identity_that_is_passed_over_is_named(shell: Shell, alice: Identity) -> None:
    folder = shell.home / ".globus"
    folder.mkdir()
    (folder / "usercert.pem").write_bytes(alice.cert_path.read_bytes())
    names = {one.name: one.text for one in ask(shell).findings if one.subject == "identity"}
    assert "not used" in names[str(folder / "usercert.pem")]


def test_a_ca_directory_that_does_not_do_is_found(shell: Shell, grid: ToyGrid, tmp_path: Path) -> None:
    assert "cannot be read" in ask(shell, "--certificates", str(tmp_path / "absent")).one("authorities", "error").text
    folder = tmp_path / "anchors"
    folder.mkdir()
    other = ToyGrid(tmp_path / "other", "Other Grid")
    for anchor in other.ca_dir.glob("*.0"):
        (folder / anchor.name).write_bytes(anchor.read_bytes())
    (folder / "broken.pem").write_text("rubbish")
    report = ask(shell, "--certificates", str(folder))
    assert report.one("authorities", "warning").name == str(folder / "broken.pem")
    assert "not to be believed: unable to get" in report.one("server", "error").text


def test_a_server_that_is_not_there_or_not_itself_is_found(shell: Shell, rig: Rig) -> None:
    assert "Connection refused" in ask(shell, "-s", f"localhost:{free_port()}").one("server", "error").text
    assert "PILOTAGE_SERVER" in ask(shell, "-s", "no such/host").one("server", "error").next
    assert "no server is named" in ask(shell, environ={"PILOTAGE_SERVER": ""}).one("server", "error").text
    assert rig.app is not None
    wrong = ask(shell, "-s", f"[::1]:{rig.app.port}", environ={})
    assert wrong.one("server", "error")


def test_a_certificate_for_another_name_is_found(
    make_rig: Callable[..., Rig], grid: ToyGrid, alice_proxy: Path, tmp_path: Path
) -> None:
    other = grid.host("other.example.org", addresses=())
    rig = make_rig(server={"host_cert": str(other.cert_path), "host_key": str(other.key_path)})
    found = ask(Shell(rig, alice_proxy, tmp_path / "home")).one("server", "error")
    assert "Hostname mismatch" in found.text


def test_keys_that_are_of_no_use_are_found(shell: Shell) -> None:
    shell.ok("submit", "--", "/bin/true")
    folder = shell.home / ".local" / "share" / "pilotage" / "retrieval-keys"
    (key,) = folder.iterdir()
    key.chmod(0o644)
    (folder / "0b0b0b0b").write_bytes(os.urandom(32))
    (folder / "0b0b0b0b").chmod(0o600)
    (folder / "rubbish").write_text("x")
    folder.chmod(0o755)
    report = ask(shell)
    nexts = {one.next for one in report.findings if one.subject == "retrieval keys"}
    assert nexts == {"", f"chmod 600 {key}", f"rm {folder / 'rubbish'}", f"chmod 700 {folder}"}
    assert report.one("retrieval keys", "ok").text.startswith("0 keys, and 1 of credentials that are gone or another")


def test_held_jobs_are_told_with_the_way_out(shell: Shell) -> None:
    job_id = shell.ok("submit", "--", "/bin/true").strip()
    credential_id = json.loads(shell.ok("show", job_id, "--json"))["credential_id"]
    shell.ok("credential", "destroy", credential_id)
    found = ask(shell).one("jobs", "warning")
    assert found.text == "1 job is held: CREDENTIAL_DESTROYED"
    assert found.next.startswith("pilotage credential delegate")


def test_a_clock_that_is_off_is_found(shell: Shell, rig: Rig) -> None:
    rig.clock.turn(600)
    assert "s behind the server" in ask(shell).one("clock", "warning").text


def test_a_configuration_that_is_wrong_is_found(shell: Shell) -> None:
    folder = shell.home / ".config" / "pilotage"
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text("sever = 'x'\n")
    assert "sever" in ask(shell).one("configuration", "error").text
