"""The gateway against clients that are slow, silent, broken, strangers, thieves, or cut off in the middle."""

import contextlib
import datetime
import signal
import socket
import sqlite3
import ssl
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import hypothesis
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat
from cryptography.x509.oid import NameOID
from hypothesis import strategies as st
from toygrid import Identity, ToyGrid

from pilotage.errors import PilotageError
from pilotage.myproxy import client
from pilotage.myproxy.client import MyProxyServer, connect
from pilotage.myproxy.messages import Command, Kind, challenge_reply, format_chain
from pilotage.reasons import Reason
from pilotage.secret import Secret
from pilotage.v1 import admin_pb2
from pilotage.voms.tls import Deadline, client_context
from pilotage.x509.der import encode_proxy_info
from pilotage.x509.files import LocalIdentity, load_identity
from pilotage.x509.keys import KeyKind, make_key
from pilotage.x509.proxies import INHERIT_ALL, PROXY_CERT_INFO, sign_proxy
from pilotage.x509.requests import check_request, make_request
from pilotage_server import keys as key_files
from pilotage_server.gateway import doorman, phrases, service
from pilotage_server.store import myproxy as store
from support.gateway import PASS, code, line_to, port, put, request, rows, say, stored, take
from support.myproxy import Clients
from support.server_process import ServerProcess
from support.server_rig import Rig, local_identity

pytestmark = pytest.mark.interop

PILOT = "/O=Toy Grid/CN=pilot 1"
POLICY: dict[str, object] = {
    "listen": "127.0.0.1:0",
    "accepted_credentials": ["/O=Toy Grid/*"],
    "authorized_retrievers": ["*"],
    "trusted_retrievers": ["/O=Toy Grid/CN=pilot ?"],
    "authorized_renewers": ["/O=Toy Grid/CN=renewer"],
    "allow_unattended": True,
    "allow_key_storage": True,
    "max_usernames": 3,
}


@pytest.fixture
def rig(grid: ToyGrid, host: Identity, tmp_path: Path) -> Iterator[Rig]:
    made = Rig(grid, tmp_path, host, {"gateway": POLICY})
    made.start()
    yield made
    made.stop()


def test_clients_of_tls_1_2_are_served_and_older_ones_are_not(rig: Rig, alice: Identity) -> None:
    stored(rig, alice, request(Command.PUT, phrase=PASS))
    server = MyProxyServer("localhost", port(rig))
    context = client_context(local_identity(alice), rig.grid.ca_dir)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with connect(server, context, Deadline.after(30)) as line:
        line.send(request(Command.INFO))
        assert line.read_answer().kind is Kind.OK
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(PilotageError), connect(server, context, Deadline.after(30)):
        pass


# what is no request


@pytest.mark.parametrize(
    "content",
    [
        b"\0",
        b"\xff" * 500 + b"\0",
        request(Command.GET).replace(b"v2", b"v1"),
        request(Command.GET).replace(b"43200", b"9" * 30),
        request(Command.GET).replace(b"43200", b"-5"),
        request(Command.GET).replace(b"COMMAND=0", b"COMMAND=99"),
        b"VERSION=MYPROXYv2\nCOMMAND=0\nX=" + b"x" * 100_000,
        b"A" * 200_000,
        b"\n" * 70_000,
    ],
)
def test_what_is_no_request_is_refused_with_its_reason(rig: Rig, content: bytes) -> None:
    with line_to(rig) as line:
        line.send(content)
        assert code(line.read_answer()) == "MYPROXY_MALFORMED"


def test_a_delegation_within_gsi_is_refused(rig: Rig, alice: Identity, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "GSI_HELLO", b"D")
    assert say(rig, alice, request(Command.INFO)) == "MYPROXY_MALFORMED"


def test_what_is_not_even_tls_is_dropped(rig: Rig, alice: Identity) -> None:
    for content in (b"GET / HTTP/1.0\r\n\r\n", b"\0" * 5000, b"\x16\x03\x01\x40\x00" + b"\xff" * 0x4000):
        with socket.create_connection(("127.0.0.1", port(rig)), 10) as plain:
            plain.sendall(content)
            plain.settimeout(10)
            with contextlib.suppress(ConnectionError):
                while plain.recv(4096):
                    pass
    assert put(rig, alice, request(Command.PUT, phrase=PASS)).kind is Kind.OK


@pytest.mark.parametrize(
    "content",
    [
        b"\x00",
        b"\x0d" + b"0\x82\x01\x00" + b"x" * 256,
        b"\x01V",
        b"\x010\x84\xff\xff\xff\xff",
        b"\x010\x82\x00\x05xxxxx",
        b"\x010\x82\xff\xff",
    ],
)
def test_a_put_of_something_else_stores_nothing(rig: Rig, alice: Identity, content: bytes) -> None:
    with line_to(rig, alice) as line:
        line.send(request(Command.PUT, phrase=PASS))
        assert line.read_answer().kind is Kind.OK
        line.read_der()
        line.send(content + (b"z" * 65535 if content.endswith(b"\xff\xff") else b""))
        assert code(line.read_answer()) in ("MYPROXY_MALFORMED", "PROXY_MALFORMED", "PROXY_TOO_LARGE")
    assert (rows(rig, "credentials"), rows(rig, "myproxy_entries"), rows(rig, "myproxy_usernames")) == (0, 0, 0)


def test_a_get_with_something_else_than_a_request_issues_nothing(rig: Rig, alice: Identity) -> None:
    stored(rig, alice, request(Command.PUT, phrase=PASS))
    weak = make_request(make_key(KeyKind.EC_P256))[:-9] + b"123456789"
    for content in (b"V", b"0\x03abc", weak):
        with line_to(rig) as line:
            line.send(request(Command.GET, phrase=PASS))
            assert line.read_answer().kind is Kind.OK
            line.send(content)
            assert code(line.read_answer()) in ("MYPROXY_MALFORMED", "CSR_INVALID")
    assert rows(rig, "issuances") == 0


@hypothesis.given(
    st.lists(
        st.sampled_from(request(Command.PUT, phrase=PASS).split(b"\n")) | st.binary(max_size=40),
        min_size=1,
        max_size=12,
    ),
    st.integers(0, 3),
)
@hypothesis.settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture, hypothesis.HealthCheck.too_slow],
)
def test_no_messages_do_more_than_be_refused(rig: Rig, alice: Identity, lines: list[bytes], cut: int) -> None:
    """Whatever is sent is answered within its time, by an error or by what a request would get."""
    with line_to(rig, alice) as line:
        line.send(b"\n".join(lines) + b"\n\0" + b"V" * cut)
        answer = line.read_answer()
        assert answer.kind is Kind.OK or code(answer) in Reason.__members__
    assert rows(rig, "credentials") == 0


# silence


def test_half_a_message_and_silence_ends_at_the_deadline(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "HANDSHAKE_SECONDS", 1.0)
    began = time.monotonic()
    with line_to(rig) as line:
        line.send(b"VERSION=MYPROXYv2\nCOMM")
        with pytest.raises(OSError):
            line.read(1)
    with socket.create_connection(("127.0.0.1", port(rig)), 10) as plain, contextlib.suppress(ConnectionError):
        assert plain.recv(1) == b""
    # Not at the end of the time that it is given otherwise.
    assert time.monotonic() - began < 2 * 10


def test_a_put_that_stops_in_the_middle_stores_nothing(
    rig: Rig, alice: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as hasty, contextlib.suppress(PilotageError):
        hasty.setattr(service, "TALK_SECONDS", 3.0)
        with line_to(rig, alice) as line:
            line.send(request(Command.PUT, phrase=PASS))
            line.read_answer()
            line.read_der()
            line.send(b"\x02")
            line.read(1)
    with line_to(rig, alice) as line:
        line.send(request(Command.PUT, phrase=PASS))
        line.read_answer()
    assert say(rig, alice, request(Command.INFO)) == "CREDENTIAL_NOT_FOUND"
    assert (rows(rig, "credentials"), rows(rig, "myproxy_usernames")) == (0, 0)


def test_two_hundred_silent_connections_do_not_hold_up_a_client(
    rig: Rig, grid: ToyGrid, alice: Identity, tmp_path: Path
) -> None:
    clients = Clients(grid, tmp_path, port(rig))
    clients.ok(alice, "init", "-S", "-l", "alice", typed=[PASS])
    context = client_context(None, grid.ca_dir)
    with contextlib.ExitStack() as stack:
        for number in range(200):
            plain = stack.enter_context(socket.create_connection(("127.0.0.1", port(rig)), 10))
            if number % 3 == 1:
                plain.sendall(b"\x16\x03\x01\x02\x00\x01")
            elif number % 3 == 2 and number > 150:
                stack.enter_context(context.wrap_socket(plain, server_hostname="localhost"))
        began = time.monotonic()
        clients.ok(None, "logon", "-S", "-l", "alice", typed=[PASS])
        clients.ok(alice, "info", "-l", "alice")
        assert time.monotonic() - began < 10
        assert rig.app is not None
        assert rig.app._gateway is not None
        assert rig.app._gateway.connections <= doorman.MOST_SILENT_OF_A_HOST


def test_more_clients_at_once_than_are_served_are_told_to_wait(
    rig: Rig, alice: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doorman, "MOST_BUSY_OF_A_HOST", 3)
    with contextlib.ExitStack() as stack:
        for _ in range(3):
            line = stack.enter_context(line_to(rig, alice))
            line.send(request(Command.PUT, phrase=PASS))
            assert line.read_answer().kind is Kind.OK
        assert say(rig, alice, request(Command.INFO)) == "RATE_LIMITED"
    assert say(rig, alice, request(Command.INFO)) in ("CREDENTIAL_NOT_FOUND", "RATE_LIMITED")


# strangers and thieves


def test_a_command_that_wants_a_certificate_says_so(rig: Rig) -> None:
    for command in (Command.PUT, Command.INFO, Command.DESTROY, Command.STORE):
        assert say(rig, None, request(command, phrase=PASS)) == "UNAUTHENTICATED"
    assert say(rig, None, request(Command.CHANGE, phrase=PASS, NEW_PHRASE="another-one")) == "UNAUTHENTICATED"


def test_a_put_of_anothers_proxy_or_for_another_key_is_refused(rig: Rig, alice: Identity, pilot: Identity) -> None:
    for signer, own_key, expected in (
        (local_identity(pilot), False, "DELEGATION_WRONG_OWNER"),
        (local_identity(alice), True, "DELEGATION_KEY_MISMATCH"),
    ):
        with line_to(rig, alice) as line:
            line.send(request(Command.PUT, phrase=PASS))
            assert line.read_answer().kind is Kind.OK
            key = check_request(line.read_der())
            if own_key:
                key = make_key(KeyKind.EC_P256).public_key()
            life = datetime.timedelta(hours=2)
            proxy = sign_proxy(signer.chain, signer.key, key, lifetime=life, now=rig.clock())
            line.send(format_chain([proxy.public_bytes(Encoding.DER), *signer.chain_der]))
            assert code(line.read_answer()) == expected
    assert rows(rig, "credentials") == 0


def test_a_stolen_certificate_without_the_pass_phrase_takes_nothing(rig: Rig, alice: Identity, pilot: Identity) -> None:
    """Neither the owner's certificate nor a trusted retriever's stands in for a pass phrase."""
    text = request(Command.PUT, phrase=PASS, RETRIEVER_TRUSTED=PILOT, KEYRETRIEVERS=PILOT)
    stored(rig, alice, text)
    for thief in (alice, pilot):
        wrong = say(rig, thief, request(Command.GET, phrase="not-the-phrase"))
        assert wrong == "PASSPHRASE_WRONG"
        assert say(rig, thief, request(Command.GET)) in ("CREDENTIAL_NOT_FOUND", "PASSPHRASE_WRONG")
    change = request(Command.CHANGE, phrase="not-the-phrase", NEW_PHRASE="thiefs-own-phrase")
    assert say(rig, alice, change) == "PASSPHRASE_WRONG"
    assert take(rig).chain


def test_a_client_with_a_revoked_expired_or_unknown_certificate_is_refused(
    rig: Rig, grid: ToyGrid, tmp_path: Path
) -> None:
    gone = grid.user("Gone")
    grid.revoke(gone)
    assert say(rig, gone, request(Command.INFO)) == "CERTIFICATE_REVOKED"
    other = ToyGrid(tmp_path / "other", name="Other Grid").user("Alice")
    for who in (grid.user("Ended", days=-1), other):
        # OpenSSL says so within TLS, before there is anything to answer.
        with pytest.raises(PilotageError) as caught:
            say(rig, who, request(Command.INFO))
        assert caught.value.reason is Reason.MYPROXY_SERVER_UNREACHABLE


def test_a_full_proxy_below_a_limited_one_is_refused_though_openssl_takes_it(
    rig: Rig, grid: ToyGrid, alice: Identity, tmp_path: Path
) -> None:
    limited = load_identity(grid.plain_proxy(alice, tmp_path / "limited.pem", limited=True))
    key = make_key(KeyKind.RSA_2048)
    above = limited.chain[0]
    name = x509.RelativeDistinguishedName([x509.NameAttribute(NameOID.COMMON_NAME, "7")])
    now = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    full = (
        x509.CertificateBuilder()
        .issuer_name(above.subject)
        .subject_name(x509.Name([*above.subject.rdns, name]))
        .serial_number(7)
        .public_key(key.public_key())
        .not_valid_before(above.not_valid_before_utc)
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.UnrecognizedExtension(PROXY_CERT_INFO, encode_proxy_info(INHERIT_ALL)), critical=True)
        .sign(limited.key, hashes.SHA256())
    )
    forged = LocalIdentity(chain=(full, *limited.chain), key=key, source="forged")
    assert say(rig, forged, request(Command.INFO)) == "PROXY_FULL_UNDER_LIMITED"


def test_a_limited_proxy_stores_and_destroys_nothing(rig: Rig, grid: ToyGrid, alice: Identity, tmp_path: Path) -> None:
    limited = load_identity(grid.plain_proxy(alice, tmp_path / "limited.pem", limited=True))
    stored(rig, alice, request(Command.PUT, phrase=PASS))
    for command in (Command.PUT, Command.DESTROY, Command.STORE):
        assert say(rig, limited, request(command, phrase=PASS)) == "LIMITED_PROXY_REFUSED"
    assert say(rig, limited, request(Command.INFO)) == "OK"


def test_a_renewal_proof_must_be_of_this_challenge_and_this_owner(
    rig: Rig, grid: ToyGrid, alice: Identity, renewer: Identity, tmp_path: Path
) -> None:
    stored(rig, alice, request(Command.PUT, RENEWER="*"))
    old = load_identity(grid.plain_proxy(alice, tmp_path / "old.pem"))
    assert isinstance(old.key, rsa.RSAPrivateKey)

    def renew(method: int, signed: Callable[[str], bytes], chain: list[bytes]) -> str:
        with line_to(rig, renewer) as line:
            line.send(request(Command.GET))
            answer = line.read_answer()
            assert answer.kind is Kind.CHALLENGE
            assert {name for name, _ in answer.challenges} == {"X509_certificate", "X509_certificate_SHA256"}
            line.send(challenge_reply(method, signed(answer.challenges[0][1]), chain))
            return code(line.read_answer())

    def sign(algorithm: hashes.HashAlgorithm) -> Callable[[str], bytes]:
        return lambda text: old.key.sign(text.encode(), padding.PKCS1v15(), algorithm)  # type: ignore[call-arg,arg-type]

    first: list[bytes] = []

    def again(text: str) -> bytes:
        first.append(sign(hashes.SHA256())(text))
        return first[0]

    assert renew(4, again, old.chain_der) == "OK"
    assert renew(4, again, old.chain_der) == "SIGNATURE_INVALID"
    assert renew(2, sign(hashes.SHA1()), old.chain_der) == "OK"
    assert renew(2, sign(hashes.SHA256()), old.chain_der) == "SIGNATURE_INVALID"
    assert renew(1, sign(hashes.SHA256()), old.chain_der) == "SIGNATURE_INVALID"
    assert renew(4, sign(hashes.SHA256()), local_identity(renewer).chain_der) == "SIGNATURE_INVALID"
    assert renew(4, sign(hashes.SHA256()), old.chain_der[:1]) == "CHAIN_UNKNOWN_CA"
    # What has ended proves nothing, not even within the minutes that skewed clocks are forgiven elsewhere.
    rig.clock.turn(12 * 3600 + 60)
    assert renew(4, sign(hashes.SHA256()), old.chain_der) == "PROXY_EXPIRED"


def test_who_can_write_the_database_cannot_widen_a_policy(rig: Rig, alice: Identity, pilot: Identity) -> None:
    stored(rig, alice, request(Command.PUT, RETRIEVER_TRUSTED="/O=Toy Grid/CN=nobody"))
    assert say(rig, pilot, request(Command.GET)) == "CREDENTIAL_NOT_FOUND"
    path = rig.state / "credentials.sqlite"
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("UPDATE myproxy_entries SET trusted_retrievers = '*'")
    assert say(rig, pilot, request(Command.GET)) == "RETRIEVAL_KEY_WRONG"


def test_a_credential_that_has_ended_or_was_revoked_gives_nothing(rig: Rig, grid: ToyGrid, pilot: Identity) -> None:
    carol = grid.user("Carol")
    stored(rig, carol, request(Command.PUT, "carol", PASS), hours=2)
    stored(rig, carol, request(Command.PUT, "carol", RETRIEVER_TRUSTED="*", CRED_NAME="n"), hours=2)
    assert take(rig, "carol").chain
    grid.revoke(carol)
    with pytest.raises(PilotageError, match="CREDENTIAL_REVOKED"):
        take(rig, "carol")
    assert say(rig, pilot, request(Command.GET, "carol", CRED_NAME="n")) == "CREDENTIAL_REVOKED"
    rig.clock.turn(3 * 3600)
    with pytest.raises(PilotageError, match="CREDENTIAL_EXPIRED"):
        take(rig, "carol")
    # It is erased two hours after its end.
    rig.clock.turn(3600 + 60)
    rig.call(lambda app: app.prune())
    with pytest.raises(PilotageError, match="PASSPHRASE_WRONG"):
        take(rig, "carol")
    assert rows(rig, "myproxy_entries") == 0


def test_guesses_are_forgotten_after_a_while_and_by_a_right_one(rig: Rig, alice: Identity) -> None:
    stored(rig, alice, request(Command.PUT, phrase=PASS))
    for _ in range(store.MOST_GUESSES - 1):
        assert say(rig, None, request(Command.GET, phrase="not-the-phrase")) == "PASSPHRASE_WRONG"
    assert take(rig).chain
    for _ in range(store.MOST_GUESSES):
        assert say(rig, None, request(Command.GET, phrase="not-the-phrase")) == "PASSPHRASE_WRONG"
    assert say(rig, None, request(Command.GET, phrase=PASS)) == "PASSPHRASE_LOCKED"
    rig.clock.turn(store.GUESS_WINDOW.total_seconds() + 1)
    assert take(rig).chain
    rig.call(lambda app: app.prune())
    assert rows(rig, "myproxy_guesses") == 0


def test_an_owner_cannot_take_user_names_without_end(rig: Rig, alice: Identity) -> None:
    for number in range(3):
        stored(rig, alice, request(Command.PUT, f"name{number}", PASS))
    assert code(put(rig, alice, request(Command.PUT, "one-more", PASS))) == "CREDENTIAL_LIMIT"
    stored(rig, alice, request(Command.PUT, "name0", PASS, CRED_NAME="more"))


def test_names_and_policies_are_bounded(rig: Rig, alice: Identity) -> None:
    for fields in (
        {"CRED_NAME": "a,b"},
        {"CRED_NAME": "a=b"},
        {"CRED_NAME": "n" * 65},
        {"CRED_DESC": "d" * 257},
        {"RETRIEVER": "*" * 1025},
    ):
        assert code(put(rig, alice, request(Command.PUT, phrase=PASS, **fields))) == "INVALID_ARGUMENT"
    assert code(put(rig, alice, request(Command.PUT, "", PASS))) == "INVALID_ARGUMENT"
    assert code(put(rig, alice, request(Command.PUT, "u" * 257, PASS))) == "INVALID_ARGUMENT"


# two at once


def test_a_free_user_name_that_two_take_at_once_is_given_to_one(rig: Rig, alice: Identity, pilot: Identity) -> None:
    with line_to(rig, alice) as first, line_to(rig, pilot) as second:
        proxies = []
        for line, who in ((first, alice), (second, pilot)):
            identity = local_identity(who)
            line.send(request(Command.PUT, "free", PASS))
            assert line.read_answer().kind is Kind.OK
            key = check_request(line.read_der())
            life = datetime.timedelta(hours=2)
            proxy = sign_proxy(identity.chain, identity.key, key, lifetime=life, now=rig.clock())
            proxies.append([proxy.public_bytes(Encoding.DER), *identity.chain_der])
        second.send(format_chain(proxies[1]))
        assert second.read_answer().kind is Kind.OK
        first.send(format_chain(proxies[0]))
        assert code(first.read_answer()) == "USERNAME_TAKEN"
    assert (rows(rig, "credentials"), rows(rig, "myproxy_usernames")) == (1, 1)
    assert say(rig, alice, request(Command.INFO, "free")) == "CREDENTIAL_NOT_FOUND"


def test_a_wrong_pass_phrase_costs_the_same_work_whatever_the_truth_is(
    rig: Rig, alice: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored(rig, alice, request(Command.PUT, "known", PASS))
    stored(rig, alice, request(Command.PUT, "known", PASS, CRED_NAME="closed", RETRIEVER="/nobody"))
    stored(rig, alice, request(Command.PUT, "known", CRED_NAME="unattended", RETRIEVER_TRUSTED=PILOT))
    salts: list[bytes] = []
    stretch = phrases._scrypt

    def counted(passphrase: Secret, salt: bytes) -> bytes:
        salts.append(salt)
        return stretch(passphrase, salt)

    monkeypatch.setattr(phrases, "_scrypt", counted)
    tried = [("known", ""), ("known", "closed"), ("known", "unattended"), ("known", "none"), ("unknown", "")]
    for username, name in tried:
        fields = {"CRED_NAME": name} if name else {}
        assert say(rig, None, request(Command.GET, username, "not-the-phrase", **fields)) == "PASSPHRASE_WRONG"
    assert len(salts) == rows(rig, "myproxy_guesses") == len(tried)


# uploads


def store_key(rig: Rig, who: Identity, content: bytes, **fields: str) -> str:
    with line_to(rig, who) as line:
        line.send(request(Command.STORE, **fields))
        answer = line.read_answer()
        if answer.kind is not Kind.OK:
            return code(answer)
        line.send(content + b"\0")
        return code(line.read_answer())


def test_no_limited_proxy_leads_to_a_whole_key(
    grid: ToyGrid, host: Identity, alice: Identity, pilot: Identity, renewer: Identity, tmp_path: Path
) -> None:
    """Neither a limited client's own, nor a limited older proxy that a renewer shows."""
    keys: dict[str, object] = {
        "authorized_key_retrievers": ["/O=Toy Grid/*"],
        "default_key_retrievers": ["/O=Toy Grid/*"],
    }
    rig = Rig(grid, tmp_path, host, {"gateway": {**POLICY, **keys}})
    rig.start()
    try:
        stored(rig, alice, request(Command.PUT, RENEWER="*", RETRIEVER_TRUSTED="*"))
        assert say(rig, pilot, request(Command.RETRIEVE)) == "OK"
        limited = load_identity(grid.plain_proxy(pilot, tmp_path / "limited.pem", limited=True))
        assert say(rig, limited, request(Command.RETRIEVE)) == "LIMITED_PROXY_REFUSED"
        old = load_identity(grid.plain_proxy(alice, tmp_path / "old.pem", limited=True))
        assert isinstance(old.key, rsa.RSAPrivateKey)
        with line_to(rig, renewer) as line:
            line.send(request(Command.RETRIEVE))
            challenge = line.read_answer().challenges[0][1].encode()
            signature = old.key.sign(challenge, padding.PKCS1v15(), hashes.SHA256())
            line.send(challenge_reply(4, signature, old.chain_der))
            assert code(line.read_answer()) == "LIMITED_PROXY_REFUSED"
    finally:
        rig.stop()


def test_a_plain_key_is_stored_as_an_unattended_one_and_never_lies_in_the_clear(
    rig: Rig, alice: Identity, pilot: Identity
) -> None:
    content = alice.cert_path.read_bytes() + alice.key_path.read_bytes()
    assert store_key(rig, alice, content, RETRIEVER_TRUSTED=PILOT) == "OK"
    assert take(rig, phrase="", identity=local_identity(pilot)).chain
    assert b"PRIVATE KEY" not in (rig.state / "credentials.sqlite").read_bytes()


def test_an_upload_of_anothers_certificate_or_key_is_refused(rig: Rig, alice: Identity, pilot: Identity) -> None:
    certificate, key = alice.cert_path.read_bytes(), alice.key_path.read_bytes()
    assert store_key(rig, alice, pilot.cert_path.read_bytes() + pilot.key_path.read_bytes()) == "DELEGATION_WRONG_OWNER"
    assert store_key(rig, alice, certificate + pilot.key_path.read_bytes()) == "KEY_MISMATCH"
    for content in (b"", certificate, key, b"\xff" * 5000, b"x" * 100_000):
        assert store_key(rig, alice, content) == "MYPROXY_MALFORMED"
    other = local_identity(pilot).key
    closed = other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(PASS.encode()))
    assert store_key(rig, alice, certificate + closed) == "OK"
    # What is closed cannot be looked into until its pass phrase comes.
    assert say(rig, None, request(Command.GET, phrase=PASS)) == "KEY_MISMATCH"


def test_a_plain_key_is_not_stored_where_unattended_credentials_are_not(
    grid: ToyGrid, host: Identity, alice: Identity, tmp_path: Path
) -> None:
    rig = Rig(grid, tmp_path, host, {"gateway": {**POLICY, "allow_unattended": False}})
    rig.start()
    try:
        content = alice.cert_path.read_bytes() + alice.key_path.read_bytes()
        assert store_key(rig, alice, content) == "UNATTENDED_NOT_ALLOWED"
        assert rows(rig, "credentials") == 0
    finally:
        rig.stop()


# the host certificate


def test_a_renewed_host_certificate_is_taken_up_and_an_unusable_one_is_not(grid: ToyGrid, tmp_path: Path) -> None:
    own, newer = grid.host("localhost"), grid.host("localhost")
    rig = Rig(grid, tmp_path, own, {"gateway": POLICY})
    rig.start()

    def shown() -> bytes:
        context = client_context(None, grid.ca_dir)
        plain = socket.create_connection(("localhost", port(rig)), 10)
        with plain, context.wrap_socket(plain, server_hostname="localhost") as connection:
            return connection.getpeercert(binary_form=True) or b""

    try:
        before = shown()
        own.key_path.write_bytes(b"not a key")
        rig.call(lambda app: app.prune())
        assert shown() == before
        own.key_path.write_bytes(newer.key_path.read_bytes())
        own.cert_path.write_bytes(newer.cert_path.read_bytes())
        rig.call(lambda app: app.prune())
        assert shown() == x509.load_pem_x509_certificate(newer.cert_path.read_bytes()).public_bytes(Encoding.DER)
    finally:
        rig.stop()


# crashes


def test_a_put_whose_store_fails_leaves_nothing_and_keeps_what_was_there(
    rig: Rig, alice: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored(rig, alice, request(Command.PUT, phrase=PASS))
    with monkeypatch.context() as patched:
        # The last statement of the transaction: the claim, the removal of the old and the new key came before.
        patched.setattr(store, "INSERT", "INSERT INTO nowhere VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)")
        assert code(put(rig, alice, request(Command.PUT, phrase="another-phrase"))) == "INTERNAL"
        assert code(put(rig, alice, request(Command.PUT, "fresh", phrase="another-phrase"))) == "INTERNAL"
    assert take(rig).chain
    assert (rows(rig, "credentials"), rows(rig, "myproxy_entries"), rows(rig, "myproxy_usernames")) == (1, 1, 1)


def test_a_server_that_is_killed_within_a_put_has_stored_nothing(
    grid: ToyGrid, host: Identity, alice: Identity, tmp_path: Path
) -> None:
    process = ServerProcess(grid, tmp_path, host, {"gateway": POLICY})
    try:
        process.start()
        server = MyProxyServer("localhost", process.gateway_port)
        context = client_context(local_identity(alice), grid.ca_dir)
        with contextlib.suppress(PilotageError), connect(server, context, Deadline.after(30)) as line:
            line.send(request(Command.PUT, phrase=PASS))
            assert line.read_answer().kind is Kind.OK
            line.read_der()
            process.stop(signal.SIGKILL)
            line.read(1)
        process.start()
        clients = Clients(grid, tmp_path, process.gateway_port)
        assert clients.no(alice, "info", "-l", "alice") == "CREDENTIAL_NOT_FOUND"
        with contextlib.closing(sqlite3.connect(process.state / "credentials.sqlite")) as database:
            for table in ("credentials", "myproxy_entries", "myproxy_usernames"):
                assert database.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)
        # One that was told OK is there after a kill at once.
        clients.ok(alice, "init", "-S", "-l", "alice", typed=[PASS])
        process.stop(signal.SIGKILL)
        process.start()
        again = Clients(grid, tmp_path, process.gateway_port)
        again.ok(None, "logon", "-S", "-l", "alice", typed=[PASS])
    finally:
        process.close()


def test_a_pass_phrase_changed_by_two_at_once_is_changed_once(rig: Rig, alice: Identity) -> None:
    stored(rig, alice, request(Command.PUT, phrase=PASS))
    phrases = ["first-new-phrase", "second-new-phrase"]
    with ThreadPoolExecutor(2) as pool:
        texts = [request(Command.CHANGE, phrase=PASS, NEW_PHRASE=phrase) for phrase in phrases]
        said = list(pool.map(lambda text: say(rig, alice, text), texts))
    assert said.count("OK") == 1
    assert take(rig, phrase=phrases[said.index("OK")]).chain


def test_the_gateway_is_off_unless_it_is_given_a_port(grid: ToyGrid, host: Identity, tmp_path: Path) -> None:
    rig = Rig(grid, tmp_path, host, {"gateway": {"authorized_retrievers": ["*"]}})
    rig.start()
    try:
        assert port(rig) == 0
    finally:
        rig.stop()


# bans and the audit


def test_who_is_banned_is_refused_and_nobody_gets_a_proxy_of_theirs(
    rig: Rig, grid: ToyGrid, alice: Identity, pilot: Identity, host: Identity
) -> None:
    stored(rig, alice, request(Command.PUT, phrase=PASS))
    admin = rig.mutual_client(local_identity(grid.user("admin"))).admin
    admin.Ban(admin_pb2.BanRequest(subject=alice.dn, why="lost a key"))
    assert say(rig, alice, request(Command.INFO)) == "CALLER_BANNED"
    with pytest.raises(PilotageError, match="CREDENTIAL_OWNER_BANNED"):
        take(rig)
    admin.Unban(admin_pb2.UnbanRequest(subject=alice.dn))
    assert take(rig).chain


def test_each_act_is_in_the_audit_chain_and_a_flood_of_refusals_is_one_row(
    rig: Rig, grid: ToyGrid, alice: Identity, pilot: Identity
) -> None:
    stored(rig, alice, request(Command.PUT, phrase=PASS))
    stored(rig, alice, request(Command.PUT, phrase="another-phrase"))
    take(rig, phrase="another-phrase")
    change = request(Command.CHANGE, phrase="another-phrase", NEW_PHRASE=PASS)
    assert say(rig, alice, change) == "OK"
    for _ in range(3):
        assert say(rig, pilot, request(Command.GET, "nobody-at-all", PASS)) == "PASSPHRASE_WRONG"
    assert say(rig, alice, request(Command.DESTROY)) == "OK"
    admin = rig.mutual_client(local_identity(grid.user("admin"))).admin
    entries = list(admin.QueryAudit(admin_pb2.QueryAuditRequest(page_size=1000)).entries)[::-1]
    ours = [entry for entry in entries if dict(entry.facts).get("through") == "myproxy"]
    assert [entry.act for entry in ours] == [
        "credential stored",
        "credential stored",
        "credential destroyed",
        "proxy issued",
        "pass phrase changed",
        "myproxy request refused",
        "credential destroyed",
    ]
    refused = ours[5]
    assert (refused.actor_dn, refused.reason) == (PILOT, "CREDENTIAL_NOT_FOUND")
    assert dict(refused.facts)["told"] == "PASSPHRASE_WRONG"
    assert ours[2].credential_id == ours[0].credential_id
    assert (ours[3].actor_dn, ours[3].owner_dn) == ("<anonymous>", alice.dn)
    assert not any(PASS in str(entry) or "another-phrase" in str(entry) for entry in entries)


def test_an_owner_stores_no_faster_than_the_service_allows(
    grid: ToyGrid, host: Identity, alice: Identity, tmp_path: Path
) -> None:
    rig = Rig(grid, tmp_path, host, {"gateway": POLICY, "abuse": {"owner_delegations_per_minute": 2}})
    rig.start()
    rig.clock.stand()
    try:
        for _ in range(2):
            stored(rig, alice, request(Command.PUT, phrase=PASS))
        assert code(put(rig, alice, request(Command.PUT, phrase=PASS))) == "RATE_LIMITED"
        rig.clock.turn(61)
        stored(rig, alice, request(Command.PUT, phrase=PASS))
    finally:
        rig.stop()


@pytest.mark.parametrize(("limit", "others"), [("pilot_issues_per_minute", True), ("owner_issues_per_minute", False)])
def test_nobody_takes_more_proxies_than_the_service_allows_and_a_restart_does_not_forget(
    grid: ToyGrid, host: Identity, alice: Identity, pilot: Identity, tmp_path: Path, limit: str, others: bool
) -> None:
    rig = Rig(grid, tmp_path, host, {"gateway": POLICY, "abuse": {limit: 2}})
    rig.start()
    rig.clock.stand()
    try:
        stored(rig, alice, request(Command.PUT, phrase=PASS))
        for _ in range(2):
            take(rig)
        with pytest.raises(PilotageError, match="RATE_LIMITED"):
            take(rig)
        rig.restart()
        with pytest.raises(PilotageError, match="RATE_LIMITED"):
            take(rig)
        # One taker's limit is no other's; the limit of an owner's credentials is everybody's.
        named = local_identity(pilot)
        if others:
            take(rig, identity=named)
        else:
            with pytest.raises(PilotageError, match="RATE_LIMITED"):
                take(rig, identity=named)
        assert rows(rig, "issuances") == 2 + others
        rig.clock.turn(31)
        take(rig)
    finally:
        rig.stop()


def test_a_rotated_service_key_seals_what_is_unattended_at_once_and_the_rest_at_its_use(
    rig: Rig, alice: Identity, pilot: Identity
) -> None:
    stored(rig, alice, request(Command.PUT, phrase=PASS))
    stored(rig, alice, request(Command.PUT, CRED_NAME="n", RETRIEVER_TRUSTED=PILOT))
    content = alice.cert_path.read_bytes() + alice.key_path.read_bytes()
    assert store_key(rig, alice, content, CRED_NAME="k", RETRIEVER_TRUSTED=PILOT) == "OK"

    def sealed_with() -> dict[str, bytes]:
        with contextlib.closing(sqlite3.connect(rig.state / "credentials.sqlite")) as database:
            query = "SELECT own.name, substr(sealed, 2, 8) FROM credentials JOIN myproxy_entries AS own"
            return dict(database.execute(f"{query} USING (credential_id)").fetchall())

    old = set(sealed_with().values())
    assert len(old) == 1
    key_files.rotate(rig.state / "keys", "service", rig.clock())
    rig.restart()
    rig.call(lambda app: app.prune())
    assert {name for name, key in sealed_with().items() if key in old} == {""}
    assert take(rig).chain
    assert not old & set(sealed_with().values())
    assert take(rig, phrase="", identity=local_identity(pilot), name="n").chain
    assert take(rig, phrase="", identity=local_identity(pilot), name="k").chain
