"""Debian's own MyProxy clients against our store: each program, flag and policy, and what they print when refused."""

import datetime
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from toygrid import Identity, ToyGrid

import pilotage_helper
from pilotage.x509.proxies import is_limited
from support.myproxy import Clients
from support.server_process import ServerProcess
from support.server_rig import OWNER_ROLE
from support.shell import Shell

pytestmark = pytest.mark.interop

PILOT, RENEWER = "/O=Toy Grid/CN=pilot 1", "/O=Toy Grid/CN=renewer"
PASS, OTHER = "open-sesame-17", "another-phrase-4"
POLICY: dict[str, object] = {
    "listen": "127.0.0.1:0",
    "accepted_credentials": ["/O=Toy Grid/CN=Alice", "/O=Toy Grid/CN=Bob*"],
    "authorized_retrievers": ["*"],
    "trusted_retrievers": ["/O=Toy Grid/CN=pilot ?", "FQAN:/demo/Role=pilot"],
    "authorized_renewers": [RENEWER],
    "authorized_key_retrievers": [PILOT],
    "allow_unattended": True,
    "allow_key_storage": True,
    "max_usernames": 200,
}
KEPT = {"kept": "/O=Toy Grid/CN=Bob"}


@pytest.fixture(scope="module")
def server(grid: ToyGrid, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    root = tmp_path_factory.mktemp("server")
    process = ServerProcess(grid, root, grid.host("localhost"), {"gateway": POLICY, "gateway.usernames": KEPT})
    process.start()
    yield process
    process.close()


@pytest.fixture(scope="module")
def strict(grid: ToyGrid, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A gateway that was switched on and told nothing else."""
    root = tmp_path_factory.mktemp("strict")
    settings: dict[str, dict[str, object]] = {
        "gateway": {"listen": "127.0.0.1:0"},
        "roles": {"owner": ["/O=Toy Grid/CN=Alice", OWNER_ROLE]},
    }
    process = ServerProcess(grid, root, grid.host("localhost"), settings)
    process.start()
    yield process
    process.close()


@pytest.fixture
def clients(grid: ToyGrid, server: ServerProcess, tmp_path: Path) -> Clients:
    return Clients(grid, tmp_path, server.gateway_port)


def who(grid: ToyGrid, proxy: Path) -> pilotage_helper.Identity:
    """Return what the verifier says of a proxy file, its key included."""
    options = pilotage_helper.VerifyOptions(ca_dir=grid.ca_dir, require_proxy=True, require_key=True)
    return pilotage_helper.verify_pem(proxy.read_bytes(), options)


def hours_left(identity: pilotage_helper.Identity) -> float:
    return (identity.not_after - datetime.datetime.now(datetime.UTC)).total_seconds() / 3600


# with a pass phrase


def test_init_and_logon_with_a_pass_phrase(clients: Clients, grid: ToyGrid, alice: Identity, tmp_path: Path) -> None:
    said = clients.ok(alice, "init", "-S", "-l", "p1", "-c", "100", "-t", "3", typed=[PASS])
    assert "valid for 100 hours" in said
    # What the client believes is what is stored: -c was heeded.
    assert re.search(r"timeleft: (99:5|100:0)", clients.ok(alice, "info", "-l", "p1"))
    out = tmp_path / "out.pem"
    clients.ok(None, "logon", "-S", "-l", "p1", "-t", "2", "-o", str(out), typed=[PASS])
    identity = who(grid, out)
    assert (identity.dn, identity.limited, identity.is_proxy) == (alice.dn, False, True)
    assert 1.9 < hours_left(identity) < 2.1
    assert out.stat().st_mode & 0o777 == 0o600
    # The owner's own wish, -t 3, bounds whoever asks for more.
    clients.ok(None, "logon", "-S", "-l", "p1", "-t", "50", "-o", str(out), typed=[PASS])
    assert 2.9 < hours_left(who(grid, out)) < 3.1


def test_init_leaves_a_local_proxy_where_it_is_asked_to(clients: Clients, grid: ToyGrid, alice: Identity) -> None:
    clients.ok(alice, "init", "-S", "-l", "local", "-L", typed=[PASS])
    assert who(grid, clients.home / "nobody").dn == alice.dn


def test_authentication_alone_takes_nothing(clients: Clients, alice: Identity, server: ServerProcess) -> None:
    clients.ok(alice, "init", "-S", "-l", "alone", typed=[PASS])
    clients.ok(None, "logon", "-S", "-N", "-l", "alone", typed=[PASS])
    assert clients.no(None, "logon", "-S", "-N", "-l", "alone", typed=[OTHER]) == "PASSPHRASE_WRONG"


def test_a_proxy_that_was_logged_on_can_store_again(clients: Clients, alice: Identity, tmp_path: Path) -> None:
    out = tmp_path / "out.pem"
    clients.ok(alice, "init", "-S", "-l", "again", typed=[PASS])
    clients.ok(None, "logon", "-S", "-l", "again", "-o", str(out), typed=[PASS])
    clients.ok(
        out, "init", "-S", "-l", "again", "-k", "second", "-c", "1", "-C", str(out), "-y", str(out), typed=[PASS]
    )
    assert "second" in clients.ok(out, "info", "-l", "again")


def test_the_proxy_of_a_logon_is_taken_by_openssl(
    clients: Clients, grid: ToyGrid, alice: Identity, tmp_path: Path
) -> None:
    out = tmp_path / "out.pem"
    clients.ok(alice, "init", "-S", "-l", "openssl", typed=[PASS])
    clients.ok(None, "logon", "-S", "-l", "openssl", "-o", str(out), typed=[PASS])
    command = ["openssl", "verify", "-allow_proxy_certs", "-CApath", str(grid.ca_dir), "-untrusted", str(out), str(out)]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0


def test_a_wrong_pass_phrase_an_unknown_name_and_a_policy_that_forbids_look_alike(
    clients: Clients, alice: Identity, pilot: Identity, server: ServerProcess
) -> None:
    clients.ok(alice, "init", "-S", "-l", "blunt", "-x", "-r", "/O=Toy Grid/CN=nobody", typed=[PASS])
    clients.ok(alice, "init", "-S", "-l", "blunt", "-k", "open", typed=[PASS])
    answers = {
        clients.run(pilot, "logon", "-S", "-l", "blunt", *name, typed=[phrase]).text
        for name, phrase in (([], PASS), (["-k", "open"], OTHER), (["-k", "none"], PASS))
    }
    answers.add(clients.run(pilot, "logon", "-S", "-l", "nobody-at-all", typed=[PASS]).text)
    assert len(answers) == 1
    assert "PASSPHRASE_WRONG" in answers.pop()
    # The operator's log tells them apart.
    log = server.log_path.read_text()
    assert "is not admitted by the policy (retrievers)" in log
    assert "There is no credential of this name." in log


def test_the_owner_is_told_why(clients: Clients, alice: Identity) -> None:
    clients.ok(alice, "init", "-S", "-l", "why", "-x", "-r", "/O=Toy Grid/CN=nobody", typed=[PASS])
    assert clients.no(alice, "logon", "-S", "-l", "why", typed=[PASS]) == "RETRIEVER_NOT_ALLOWED"


def test_guessing_is_ended_for_a_while_even_for_who_knows_it(
    clients: Clients, alice: Identity, server: ServerProcess
) -> None:
    clients.ok(alice, "init", "-S", "-l", "guessed", typed=[PASS])
    for _ in range(10):
        assert clients.no(None, "logon", "-S", "-l", "guessed", typed=[OTHER]) == "PASSPHRASE_WRONG"
    assert clients.no(None, "logon", "-S", "-l", "guessed", typed=[OTHER]) == "PASSPHRASE_LOCKED"
    assert clients.no(None, "logon", "-S", "-l", "guessed", typed=[PASS]) == "PASSPHRASE_LOCKED"
    # Names that do not exist are locked in the same way, so a lock does not tell that there is one.
    for _ in range(10):
        assert clients.no(None, "logon", "-S", "-l", "unheard-of", typed=[OTHER]) == "PASSPHRASE_WRONG"
    assert clients.no(None, "logon", "-S", "-l", "unheard-of", typed=[OTHER]) == "PASSPHRASE_LOCKED"
    # It survives a restart, and is of one name only.
    server.stop()
    server.start()
    again = Clients(clients.grid, clients.home, server.gateway_port)
    assert again.no(None, "logon", "-S", "-l", "guessed", typed=[PASS]) == "PASSPHRASE_LOCKED"
    again.ok(alice, "init", "-S", "-l", "guessed", "-k", "other", typed=[PASS])
    again.ok(None, "logon", "-S", "-l", "guessed", "-k", "other", "-o", str(clients.home / "x"), typed=[PASS])


def test_a_short_pass_phrase_is_refused(grid: ToyGrid, alice: Identity, tmp_path: Path) -> None:
    settings = {"gateway": {**POLICY, "min_passphrase_length": 12}}
    process = ServerProcess(grid, tmp_path, grid.host("localhost"), settings)
    try:
        process.start()
        clients = Clients(grid, tmp_path, process.gateway_port)
        assert clients.no(alice, "init", "-S", "-l", "a", typed=["eleven-char"]) == "PASSPHRASE_REFUSED"
        clients.ok(alice, "init", "-S", "-l", "a", typed=["twelve-chars"])
        change = ("change-pass-phrase", "-S", "-l", "a")
        assert clients.no(alice, *change, typed=["twelve-chars", "eleven-char"]) == "PASSPHRASE_REFUSED"
    finally:
        process.close()


def test_the_pass_phrase_is_changed_by_the_owner_who_knows_it(
    clients: Clients, alice: Identity, bob: Identity, tmp_path: Path
) -> None:
    out = str(tmp_path / "out.pem")
    clients.ok(alice, "init", "-S", "-l", "changed", "-k", "k", typed=[PASS])
    change = ("change-pass-phrase", "-S", "-l", "changed", "-k", "k")
    assert clients.no(bob, *change, typed=[PASS, OTHER]) == "CREDENTIAL_NOT_FOUND"
    assert clients.no(alice, *change, typed=[OTHER, OTHER]) == "PASSPHRASE_WRONG"
    clients.ok(alice, *change, typed=[PASS, OTHER])
    assert clients.no(None, "logon", "-S", "-l", "changed", "-k", "k", typed=[PASS]) == "PASSPHRASE_WRONG"
    clients.ok(None, "logon", "-S", "-l", "changed", "-k", "k", "-o", out, typed=[OTHER])


# without one


def test_a_trusted_retriever_needs_no_pass_phrase_and_nobody_else_gets_any(
    clients: Clients, grid: ToyGrid, alice: Identity, pilot: Identity, renewer: Identity, tmp_path: Path
) -> None:
    clients.ok(alice, "init", "-n", "-l", "t1", "-k", "panda", "-K", "for PanDA", "-c", "24", "-x", "-Z", PILOT)
    out = tmp_path / "out.pem"
    clients.ok(pilot, "logon", "-n", "-l", "t1", "-k", "panda", "-o", str(out))
    assert who(grid, out).dn == alice.dn
    logon = ("logon", "-n", "-l", "t1", "-k", "panda")
    assert clients.no(renewer, *logon) == "CREDENTIAL_NOT_FOUND"
    assert clients.no(None, *logon) == "CREDENTIAL_NOT_FOUND"
    # A proxy may not refresh itself.
    assert clients.no(alice, *logon) == "RETRIEVER_NOT_ALLOWED"
    info = clients.ok(alice, "info", "-l", "t1")
    assert "description: for PanDA" in info
    assert f"trusted retrieval policy: {PILOT}" in info


def test_policies_by_common_name_are_those_of_the_clients_without_x(
    clients: Clients, grid: ToyGrid, alice: Identity, pilot: Identity, renewer: Identity, tmp_path: Path
) -> None:
    """Without -x a client puts `*/CN=` before what its user writes; -a and -A admit everybody whom the server does."""
    clients.ok(alice, "init", "-n", "-l", "cn", "-k", "z", "-Z", "pilot 1")
    clients.ok(pilot, "logon", "-n", "-l", "cn", "-k", "z")
    assert clients.no(renewer, "logon", "-n", "-l", "cn", "-k", "z") == "CREDENTIAL_NOT_FOUND"
    clients.ok(alice, "init", "-n", "-l", "cn", "-k", "A", "-A")
    old = grid.plain_proxy(alice, tmp_path / "old.pem")
    clients.ok(renewer, "logon", "-a", str(old), "-l", "cn", "-k", "A")
    assert clients.no(pilot, "logon", "-n", "-l", "cn", "-k", "A") == "CREDENTIAL_NOT_FOUND"
    clients.ok(alice, "init", "-S", "-l", "cn", "-k", "a", "-a", typed=[PASS])
    clients.ok(None, "logon", "-S", "-l", "cn", "-k", "a", typed=[PASS])
    clients.ok(alice, "init", "-S", "-l", "cn", "-k", "r", "-r", "pilot 1", typed=[PASS])
    clients.ok(pilot, "logon", "-S", "-l", "cn", "-k", "r", typed=[PASS])
    assert clients.no(None, "logon", "-S", "-l", "cn", "-k", "r", typed=[PASS]) == "PASSPHRASE_WRONG"
    info = clients.ok(alice, "info", "-l", "cn")
    for line in ("retrieval policy: */CN=pilot 1", "renewal policy: *", "trusted retrieval policy: */CN=pilot 1"):
        assert line in info


def test_a_trusted_retriever_may_be_known_by_its_role(
    clients: Clients, grid: ToyGrid, alice: Identity, tmp_path: Path
) -> None:
    robot = grid.voms_proxy(grid.robot("some robot"), tmp_path / "robot.pem", fqans=("/demo/Role=pilot",))
    plain = grid.plain_proxy(grid.robot("plain robot"), tmp_path / "plain.pem")
    clients.ok(alice, "init", "-n", "-l", "role", "-x", "-Z", "FQAN:/demo/Role=pilot")
    clients.ok(robot, "logon", "-n", "-l", "role", "-o", str(tmp_path / "out.pem"))
    assert clients.no(plain, "logon", "-n", "-l", "role") == "CREDENTIAL_NOT_FOUND"


def test_without_a_policy_of_its_own_nobody_takes_an_unattended_credential(
    clients: Clients, alice: Identity, pilot: Identity
) -> None:
    clients.ok(alice, "init", "-n", "-l", "default")
    assert clients.no(pilot, "logon", "-n", "-l", "default") == "CREDENTIAL_NOT_FOUND"


def test_a_limited_retriever_gets_a_limited_proxy(
    clients: Clients, grid: ToyGrid, alice: Identity, pilot: Identity, tmp_path: Path
) -> None:
    limited = grid.plain_proxy(pilot, tmp_path / "limited.pem", limited=True)
    out = tmp_path / "out.pem"
    clients.ok(alice, "init", "-n", "-l", "lim", "-x", "-Z", PILOT)
    clients.ok(limited, "logon", "-n", "-l", "lim", "-o", str(out))
    assert is_limited(x509.load_pem_x509_certificates(out.read_bytes())[0])
    assert who(grid, out).limited
    own = grid.plain_proxy(alice, tmp_path / "own.pem", limited=True)
    assert clients.no(own, "destroy", "-l", "lim") == "LIMITED_PROXY_REFUSED"


def test_a_renewer_shows_an_older_proxy(
    clients: Clients, grid: ToyGrid, alice: Identity, bob: Identity, pilot: Identity, renewer: Identity, tmp_path: Path
) -> None:
    clients.ok(alice, "init", "-n", "-l", "r1", "-k", "renew", "-x", "-R", RENEWER)
    old = grid.plain_proxy(alice, tmp_path / "old.pem")
    new = tmp_path / "new.pem"
    logon = ("-l", "r1", "-k", "renew", "-t", "4", "-o", str(new))
    clients.ok(renewer, "logon", "-a", str(old), *logon)
    assert who(grid, new).dn == alice.dn
    assert 3.9 < hours_left(who(grid, new)) < 4.1
    clients.ok(renewer, "logon", "-a", str(new), *logon)
    foreign = grid.plain_proxy(bob, tmp_path / "foreign.pem")
    assert clients.no(renewer, "logon", "-a", str(foreign), *logon) == "RETRIEVER_NOT_ALLOWED"
    assert clients.no(pilot, "logon", "-a", str(old), *logon) == "CREDENTIAL_NOT_FOUND"
    assert clients.no(old, "logon", "-a", str(old), *logon) == "RETRIEVER_NOT_ALLOWED"
    # Without the older proxy the renewer's own certificate is worth nothing.
    assert clients.run(renewer, "logon", "-n", *logon).code != 0
    limited = grid.plain_proxy(alice, tmp_path / "limited.pem", limited=True)
    clients.ok(renewer, "logon", "-a", str(limited), *logon)
    assert who(grid, new).limited


# keys


def numbers_of(pem: bytes, passphrase: bytes | None) -> rsa.RSAPrivateNumbers:
    key = load_pem_private_key(pem, passphrase)
    assert isinstance(key, rsa.RSAPrivateKey)
    return key.private_numbers()


def encrypted_key(who: Identity, path: Path, *options: str) -> Path:
    command = ["openssl", "rsa", "-in", str(who.key_path), "-aes256", "-passout", f"pass:{PASS}", "-out", str(path)]
    subprocess.run([*command, *options], check=True, capture_output=True)
    path.chmod(0o600)
    return path


@pytest.mark.parametrize("form", [["-traditional"], []], ids=["pem", "pkcs8"])
def test_a_key_is_stored_and_retrieved_by_whom_its_owner_names(
    clients: Clients,
    grid: ToyGrid,
    alice: Identity,
    pilot: Identity,
    renewer: Identity,
    tmp_path: Path,
    form: list[str],
) -> None:
    username = f"keys{len(form)}"
    key = encrypted_key(alice, tmp_path / "key.pem", *form)
    names = ("-l", username, "-k", "eec")
    clients.ok(alice, "store", *names, "-c", str(alice.cert_path), "-y", str(key), "-t", "12", "-x", "-E", PILOT)
    got = ("-c", str(tmp_path / "got.cert"), "-y", str(tmp_path / "got.key"))
    assert clients.no(pilot, "retrieve", "-S", *names, *got, typed=[OTHER]) == "PASSPHRASE_WRONG"
    assert clients.no(renewer, "retrieve", "-S", *names, *got, typed=[PASS]) == "RETRIEVER_NOT_ALLOWED"
    clients.ok(pilot, "retrieve", "-S", *names, *got, typed=[PASS])
    assert (tmp_path / "got.cert").read_text().split() == alice.cert_path.read_text().split()
    pem = (tmp_path / "got.key").read_bytes()
    secret = PASS.encode() if b"ENCRYPTED" in pem else None
    assert numbers_of(pem, secret) == numbers_of(key.read_bytes(), PASS.encode())
    # A stored key serves for proxies, too, and takes another pass phrase.
    out = tmp_path / "out.pem"
    clients.ok(None, "logon", "-S", *names, "-o", str(out), typed=[PASS])
    assert who(grid, out).dn == alice.dn
    clients.ok(alice, "change-pass-phrase", "-S", *names, typed=[PASS, OTHER])
    clients.ok(None, "logon", "-S", *names, "-o", str(out), typed=[OTHER])


def test_the_key_of_a_delegated_credential_is_given_to_whom_its_policy_names_only(
    clients: Clients, alice: Identity, pilot: Identity, tmp_path: Path
) -> None:
    clients.ok(alice, "init", "-S", "-l", "nokey", typed=[PASS])
    got = ("-c", str(tmp_path / "got.cert"), "-y", str(tmp_path / "got.key"))
    assert clients.no(pilot, "retrieve", "-S", "-l", "nokey", *got, typed=[PASS]) == "PASSPHRASE_WRONG"
    assert not (tmp_path / "got.key").exists()


# names and owners


def test_a_user_name_belongs_to_who_had_it_first(clients: Clients, alice: Identity, bob: Identity) -> None:
    clients.ok(alice, "init", "-S", "-l", "mine", typed=[PASS])
    for words in ([], ["-k", "another"]):
        assert clients.no(bob, "init", "-S", "-l", "mine", *words, typed=[PASS]) == "USERNAME_TAKEN"
    assert clients.no(bob, "info", "-l", "mine") == "CREDENTIAL_NOT_FOUND"
    assert clients.no(bob, "destroy", "-l", "mine") == "CREDENTIAL_NOT_FOUND"
    # Also when its owner has nothing there any more: who asks by name must not be given somebody else's.
    clients.ok(alice, "destroy", "-l", "mine")
    assert clients.no(bob, "init", "-S", "-l", "mine", typed=[PASS]) == "USERNAME_TAKEN"
    clients.ok(alice, "init", "-S", "-l", "mine", typed=[PASS])


def test_a_subject_as_a_user_name_is_its_bearers_own(
    clients: Clients, alice: Identity, bob: Identity, tmp_path: Path
) -> None:
    clients.ok(alice, "init", "-S", "-d", typed=[PASS])
    clients.ok(None, "logon", "-S", "-l", alice.dn, "-o", str(tmp_path / "out.pem"), typed=[PASS])
    assert clients.no(bob, "init", "-S", "-l", "/O=Toy Grid/CN=stranger", typed=[PASS]) == "USERNAME_TAKEN"


def test_a_user_name_that_the_operator_keeps_is_given_to_nobody_else(
    clients: Clients, alice: Identity, bob: Identity
) -> None:
    assert clients.no(alice, "init", "-S", "-l", "kept", typed=[PASS]) == "USERNAME_TAKEN"
    clients.ok(bob, "init", "-S", "-l", "kept", typed=[PASS])


def test_who_may_not_store_is_told_so(clients: Clients, stranger: Identity) -> None:
    assert clients.no(stranger, "init", "-S", "-l", "str", typed=[PASS]) == "ROLE_REQUIRED"


def test_a_name_and_a_user_name_are_never_confused(clients: Clients, alice: Identity, tmp_path: Path) -> None:
    """MyProxy's files of user `a`, name `b` and of user `a-b` are one."""
    clients.ok(alice, "init", "-S", "-l", "a", "-k", "b", typed=[PASS])
    clients.ok(alice, "init", "-S", "-l", "a-b", typed=[OTHER])
    out = str(tmp_path / "out.pem")
    clients.ok(None, "logon", "-S", "-l", "a", "-k", "b", "-o", out, typed=[PASS])
    clients.ok(None, "logon", "-S", "-l", "a-b", "-o", out, typed=[OTHER])


def test_what_is_stored_anew_replaces_the_old_and_what_is_destroyed_is_gone(
    clients: Clients, alice: Identity, tmp_path: Path
) -> None:
    out = str(tmp_path / "out.pem")
    clients.ok(alice, "init", "-S", "-l", "anew", typed=[PASS])
    clients.ok(alice, "init", "-S", "-l", "anew", typed=[OTHER])
    assert clients.no(None, "logon", "-S", "-l", "anew", typed=[PASS]) == "PASSPHRASE_WRONG"
    clients.ok(None, "logon", "-S", "-l", "anew", "-o", out, typed=[OTHER])
    assert clients.ok(alice, "info", "-l", "anew").count("owner:") == 1
    clients.ok(alice, "destroy", "-l", "anew")
    assert clients.no(alice, "destroy", "-l", "anew") == "CREDENTIAL_NOT_FOUND"
    assert clients.no(alice, "info", "-l", "anew") == "CREDENTIAL_NOT_FOUND"


# trust roots


def test_trust_roots_are_given_to_who_has_none(clients: Clients, grid: ToyGrid, tmp_path: Path) -> None:
    clients.ca_dir = tmp_path / "trust"
    clients.ok(None, "get-trustroots", "-b")
    ours = {path.name: path.read_bytes() for path in grid.ca_dir.iterdir()}
    got = {path.name: path.read_bytes() for path in clients.ca_dir.iterdir()}
    assert got.pop("myproxy-install-log")
    assert got == ours


def test_trust_roots_come_with_a_logon(clients: Clients, grid: ToyGrid, alice: Identity, tmp_path: Path) -> None:
    clients.ok(alice, "init", "-S", "-l", "roots", typed=[PASS])
    clients.ca_dir = tmp_path / "trust"
    clients.ok(None, "logon", "-S", "-b", "-T", "-l", "roots", "-o", str(tmp_path / "out"), typed=[PASS])
    assert {path.name for path in clients.ca_dir.iterdir()} >= {path.name for path in grid.ca_dir.iterdir()}


# a gateway with nothing but its port


def test_by_default_nothing_is_given_out_and_nothing_kept_unattended(
    strict: ServerProcess, grid: ToyGrid, alice: Identity, bob: Identity, pilot: Identity, tmp_path: Path
) -> None:
    clients = Clients(grid, tmp_path, strict.gateway_port)
    clients.ok(alice, "init", "-S", "-l", "alice", typed=[PASS])
    assert clients.no(None, "logon", "-S", "-l", "alice", typed=[PASS]) == "RETRIEVER_NOT_ALLOWED"
    assert clients.no(pilot, "logon", "-n", "-l", "alice") == "RETRIEVER_NOT_ALLOWED"
    assert clients.no(alice, "init", "-n", "-l", "alice", "-k", "n") == "UNATTENDED_NOT_ALLOWED"
    assert clients.no(alice, "init", "-l", "alice", "-k", "n", "-x", "-R", RENEWER) == "UNATTENDED_NOT_ALLOWED"
    key = encrypted_key(alice, tmp_path / "key.pem")
    store = ("store", "-l", "alice", "-k", "e", "-c", str(alice.cert_path), "-y", str(key))
    assert clients.no(alice, *store) == "KEY_STORAGE_NOT_ALLOWED"
    got = ("-c", str(tmp_path / "got.cert"), "-y", str(tmp_path / "got.key"))
    assert clients.no(pilot, "retrieve", "-S", "-l", "alice", *got, typed=[PASS]) == "KEY_STORAGE_NOT_ALLOWED"
    assert clients.no(bob, "init", "-S", "-l", "bob", typed=[PASS]) == "ROLE_REQUIRED"


# one store


def test_pilotages_own_commands_see_and_destroy_what_came_through_the_gateway(
    strict: ServerProcess, grid: ToyGrid, alice: Identity, tmp_path: Path
) -> None:
    clients = Clients(grid, tmp_path, strict.gateway_port)
    clients.ok(alice, "init", "-S", "-l", "seen", "-k", "k", typed=[PASS])
    shell = Shell(strict, grid.plain_proxy(alice, tmp_path / "proxy.pem"), tmp_path / "home")
    assert "myproxy/seen/k" in shell.ok("credential", "list")
    shell.ok("credential", "destroy", "myproxy/seen/k")
    assert clients.no(alice, "info", "-l", "seen") == "CREDENTIAL_NOT_FOUND"
    clients.ok(alice, "init", "-S", "-l", "seen", "-k", "k", typed=[PASS])


# what must not be written down


def test_no_pass_phrase_and_no_key_is_on_disk_or_in_the_log(
    server: ServerProcess, clients: Clients, alice: Identity, pilot: Identity, tmp_path: Path
) -> None:
    clients.ok(alice, "init", "-S", "-l", "traces", "-k", "p", typed=["trace-of-a-phrase"])
    clients.ok(alice, "init", "-n", "-l", "traces", "-k", "n", "-x", "-Z", PILOT)
    key = encrypted_key(alice, tmp_path / "key.pem", "-traditional")
    store = ("store", "-l", "traces", "-k", "e", "-c", str(alice.cert_path), "-y", str(key), "-x", "-E", PILOT)
    clients.ok(alice, *store)
    clients.ok(None, "logon", "-S", "-l", "traces", "-k", "p", "-o", str(tmp_path / "o"), typed=["trace-of-a-phrase"])
    assert clients.no(None, "logon", "-S", "-l", "traces", "-k", "p", typed=["wrong-trace-of-a"]) == "PASSPHRASE_WRONG"
    got = ("-c", str(tmp_path / "got.cert"), "-y", str(tmp_path / "got.key"))
    clients.ok(pilot, "retrieve", "-S", "-l", "traces", "-k", "e", *got, typed=[PASS])
    change = ("change-pass-phrase", "-S", "-l", "traces", "-k", "p")
    clients.ok(alice, *change, typed=["trace-of-a-phrase", "later-trace-of-it"])
    prime = numbers_of(alice.key_path.read_bytes(), None).p
    forbidden = [b"trace-of-a-phrase", b"wrong-trace-of-a", b"later-trace-of-it", PASS.encode(), b"PRIVATE KEY"]
    forbidden += [prime.to_bytes((prime.bit_length() + 7) // 8, "big"), key.read_bytes().split(b"\n\n")[1][:64]]
    files = [path for path in server.state.rglob("*") if path.is_file()] + [server.log_path]
    assert len(files) > 5
    for path in files:
        content = path.read_bytes()
        assert not [secret for secret in forbidden if secret in content], path
