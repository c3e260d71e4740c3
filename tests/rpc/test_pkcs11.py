"""The service key in a real PKCS#11 token (SoftHSM): it never leaves it, and nothing opens without it."""

import contextlib
import datetime
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pkcs11
import pytest
from pkcs11.exceptions import PKCS11Error
from toygrid import Identity, ToyGrid

from pilotage.errors import PilotageError
from pilotage.reasons import Reason
from pilotage.secret import Secret
from pilotage.transport import open_channel
from pilotage.v1 import auth_pb2
from pilotage.x509.files import load_identity
from pilotage.x509.keys import KeyKind
from pilotage_server.clock import utc_now
from pilotage_server.commands import main
from pilotage_server.credentials.hsm import KeyToken, TokenPlace
from pilotage_server.credentials.sealing import Sealer
from pilotage_server.store.times import from_microseconds
from support.journey import acquire, complete_request, delegate, register, retrieve_request, submit
from support.refusals import reason
from support.server_process import ServerProcess
from support.server_rig import Client, Rig, config_text
from support.softhsm import PIN, SoftHsm, softhsm

__all__ = ["softhsm"]

EC = KeyKind.EC_P256
RETRIEVAL = Secret(b"r" * 32)
VALUE = Secret(b"the private key")
BOUND = ("/CN=Alice", "c", utc_now())


@pytest.fixture
def settings(softhsm: SoftHsm, tmp_path: Path) -> dict[str, object]:
    return softhsm.settings(tmp_path)


def place_of(settings: dict[str, object]) -> TokenPlace:
    return TokenPlace(
        module=Path(str(settings["module"])),
        token=str(settings["token"]),
        pin_file=Path(str(settings["pin_file"])),
        key=str(settings.get("key", "pilotage-service")),
    )


def command(rig: Rig, *words: str) -> int:
    return main([*words, "--config", str(rig.config_path)])


def forms(rig: Rig) -> list[tuple[int, str]]:
    """Return how each credential is sealed: the version, and the id of the key."""
    with contextlib.closing(sqlite3.connect(rig.state / "credentials.sqlite")) as connection:
        rows = connection.execute("SELECT sealed FROM credentials ORDER BY create_time").fetchall()
    return [(sealed[0], sealed[1:9].hex()) for (sealed,) in rows]


# the key itself


def test_what_one_key_of_a_token_sealed_opens_with_it_alone(settings: dict[str, object]) -> None:
    with contextlib.closing(KeyToken(place_of(settings))) as token:
        assert token.held() == []
        first, second = token.make(utc_now()), token.make(utc_now())
        assert [key.key_id for key in token.held()] == [second.key_id, first.key_id]
        sealed = Sealer(first).seal(VALUE, RETRIEVAL, *BOUND)
        assert Sealer(second, [first]).unseal(sealed, RETRIEVAL, *BOUND) == VALUE
        for sealer, key in ((Sealer(first), Secret(b"x" * 32)), (Sealer(second), RETRIEVAL)):
            with pytest.raises(PilotageError, match=r"RETRIEVAL_KEY_WRONG|CREDENTIAL_DESTROYED"):
                sealer.unseal(sealed, key, *BOUND)
        file = Sealer(Secret(b"s" * 32), [first])
        assert file.unseal(sealed, RETRIEVAL, *BOUND) == VALUE
        assert not file.is_current(sealed)


def test_the_key_cannot_be_taken_out(settings: dict[str, object], softhsm: SoftHsm) -> None:
    place = place_of(settings)
    with contextlib.closing(KeyToken(place)) as token:
        token.make(utc_now())
        session = pkcs11.lib(str(place.module)).get_token(token_label=place.token).open(rw=True)
        (key,) = session.get_objects({pkcs11.Attribute.LABEL: place.key})
        assert key[pkcs11.Attribute.SENSITIVE]
        assert key[pkcs11.Attribute.NEVER_EXTRACTABLE]
        with pytest.raises(PKCS11Error):
            key[pkcs11.Attribute.VALUE]
        wrapping = session.generate_key(pkcs11.KeyType.AES, 256)
        assert isinstance(wrapping, pkcs11.WrapMixin)
        with pytest.raises((PKCS11Error, AttributeError)):
            wrapping.wrap_key(key)  # type: ignore[arg-type]
        for name in (pkcs11.Attribute.EXTRACTABLE, pkcs11.Attribute.SENSITIVE):
            with pytest.raises(PKCS11Error):
                key[name] = name is pkcs11.Attribute.EXTRACTABLE
        session.close()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"token": "no such token"}, "cannot be used"),
        ({"module": "/usr/lib/no-such-module.so"}, "cannot be used"),
        ({"pin_file": "/no/such/file"}, "cannot be opened"),
    ],
)
def test_a_token_that_is_not_there_is_told(settings: dict[str, object], change: dict[str, object], words: str) -> None:
    with pytest.raises(PilotageError, match=words) as caught:
        KeyToken(place_of(settings | change))
    assert caught.value.reason is Reason.CONFIG_INVALID
    assert PIN not in str(caught.value)


def test_a_wrong_pin_and_a_pin_that_others_may_read_are_refused(settings: dict[str, object], tmp_path: Path) -> None:
    pin = tmp_path / "token.pin"
    pin.write_text("wrong pin")
    with pytest.raises(PilotageError, match="PinIncorrect") as caught:
        KeyToken(place_of(settings))
    assert "wrong pin" not in str(caught.value)
    pin.chmod(0o644)
    with pytest.raises(PilotageError, match="chmod 600"):
        KeyToken(place_of(settings))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_session_that_was_lost_is_opened_anew(settings: dict[str, object]) -> None:
    with contextlib.closing(KeyToken(place_of(settings))) as token:
        key = token.make(utc_now())
        sealed = Sealer(key).seal(VALUE, RETRIEVAL, *BOUND)
        token._session.close()
        assert Sealer(key).unseal(sealed, RETRIEVAL, *BOUND) == VALUE


def test_a_new_key_is_the_present_one_though_the_clock_was_put_back(settings: dict[str, object]) -> None:
    with contextlib.closing(KeyToken(place_of(settings))) as token:
        first = token.make(utc_now())
        second = token.make(utc_now() - datetime.timedelta(hours=1))
        third = token.make(utc_now() - datetime.timedelta(hours=2))
        assert [key.key_id for key in token.held()] == [third.key_id, second.key_id, first.key_id]
        assert len({first.key_id, second.key_id, third.key_id}) == 3


# the server with it


def test_a_server_whose_key_is_in_a_token_makes_it_there_and_serves(
    make_rig: Callable[..., Rig], settings: dict[str, object], softhsm: SoftHsm, alice_proxy: Path, pilot_proxy: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    rig = make_rig(pkcs11=settings)
    owner, pilot = rig.client(alice_proxy), rig.client(pilot_proxy)
    delegated = delegate(owner, load_identity(alice_proxy), kind=EC)
    assert not (rig.state / "keys" / "service.key").exists()
    submit(owner, delegated)
    pilot.credentials.RetrieveCredential(retrieve_request(acquire(pilot, register(pilot))))
    rig.restart()
    owner, pilot = rig.client(alice_proxy), rig.client(pilot_proxy)
    submit(owner, delegated)
    wrong = retrieve_request(acquire(pilot, register(pilot)))
    good = wrong.retrieval_key
    wrong.retrieval_key = b"w" * 32
    assert reason(pilot.credentials.RetrieveCredential, wrong) is Reason.RETRIEVAL_KEY_WRONG
    wrong.retrieval_key = good
    pilot.credentials.RetrieveCredential(wrong)
    ((version, name),) = forms(rig)
    assert version == 2
    assert command(rig, "keys", "list") == 0
    assert f"in the token  {name}  seals 1 credentials" in capsys.readouterr().out
    assert command(rig, "check-config") == 0
    assert PIN not in rig.log_text


def test_the_databases_and_the_key_folder_and_the_retrieval_key_open_nothing_without_the_token(
    make_rig: Callable[..., Rig], settings: dict[str, object], alice_proxy: Path
) -> None:
    rig = make_rig(pkcs11=settings)
    delegated = delegate(rig.client(alice_proxy), load_identity(alice_proxy), kind=EC)
    with contextlib.closing(sqlite3.connect(rig.state / "credentials.sqlite")) as connection:
        owner, end, sealed = connection.execute("SELECT owner_dn, expire_time, sealed FROM credentials").fetchone()
    files = [Secret(path.read_bytes()) for path in (rig.state / "keys").iterdir()]

    names = (owner, delegated.credential_id, from_microseconds(end))
    with pytest.raises(PilotageError, match="CREDENTIAL_DESTROYED"):
        Sealer(files[0], files[1:]).unseal(sealed, Secret(delegated.retrieval_key), *names)
    with contextlib.closing(KeyToken(place_of(settings))) as token:
        Sealer(token.held()[0]).unseal(sealed, Secret(delegated.retrieval_key), *names)


def test_a_key_in_the_token_is_rotated_while_the_server_runs(
    make_rig: Callable[..., Rig], settings: dict[str, object], alice_proxy: Path, pilot_proxy: Path
) -> None:
    rig = make_rig(pkcs11=settings)
    owner, pilot = rig.client(alice_proxy), rig.client(pilot_proxy)
    delegated = delegate(owner, load_identity(alice_proxy), kind=EC)
    ((_, before),) = forms(rig)
    assert command(rig, "keys", "rotate", "service") == 0
    rig.call(lambda app: app.take_up_keys())
    assert '"keys taken up"' in rig.log_text
    submit(owner, delegated)
    pilot.credentials.RetrieveCredential(retrieve_request(acquire(pilot, register(pilot))))
    ((version, after),) = forms(rig)
    assert version == 2
    assert after != before
    assert command(rig, "audit", "verify") == 0


def test_a_server_moves_from_a_key_file_to_a_token(
    make_rig: Callable[..., Rig], settings: dict[str, object], alice_proxy: Path, pilot_proxy: Path
) -> None:
    rig = make_rig()
    delegated = delegate(rig.client(alice_proxy), load_identity(alice_proxy), kind=EC)
    rig.stop()
    with pytest.raises(PilotageError, match="no key of this label"):
        make_rig(pkcs11=settings)
    with contextlib.closing(KeyToken(place_of(settings))) as token:
        token.make(utc_now())
    rig = make_rig(pkcs11=settings)
    owner, pilot = rig.client(alice_proxy), rig.client(pilot_proxy)
    submit(owner, delegated)
    assert [version for version, _ in forms(rig)] == [1]
    pilot.credentials.RetrieveCredential(retrieve_request(acquire(pilot, register(pilot))))
    assert [version for version, _ in forms(rig)] == [2]
    rig.stop()
    (rig.state / "keys" / "service.key").unlink()
    rig = make_rig(pkcs11=settings)
    owner, pilot = rig.client(alice_proxy), rig.client(pilot_proxy)
    submit(owner, delegated)
    pilot.credentials.RetrieveCredential(retrieve_request(acquire(pilot, register(pilot))))


def test_a_key_that_is_gone_from_the_token_refuses_and_spends_nothing(
    make_rig: Callable[..., Rig], settings: dict[str, object], alice_proxy: Path, pilot_proxy: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    rig = make_rig(pkcs11=settings)
    owner, pilot = rig.client(alice_proxy), rig.client(pilot_proxy)
    submit(owner, delegate(owner, load_identity(alice_proxy), kind=EC))
    lease = acquire(pilot, register(pilot))
    with monkeypatch.context() as broken:
        broken.setattr(KeyToken, "_find", lambda *_: [])
        refused = reason(pilot.credentials.RetrieveCredential, retrieve_request(lease))
        assert refused is Reason.KEY_TOKEN_UNAVAILABLE
    pilot.credentials.RetrieveCredential(retrieve_request(lease))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_token_that_has_gone_stops_no_server_and_passes_when_it_is_back(
    make_rig: Callable[..., Rig], settings: dict[str, object], alice_proxy: Path, pilot_proxy: Path
) -> None:
    """Its session is lost, and without the PIN no other can be opened."""
    rig = make_rig(pkcs11=settings)
    owner, pilot = rig.client(alice_proxy), rig.client(pilot_proxy)
    submit(owner, delegate(owner, load_identity(alice_proxy), kind=EC))
    lease = acquire(pilot, register(pilot))
    pin = Path(str(settings["pin_file"]))
    away = pin.rename(pin.with_name("away"))
    assert rig.app is not None
    token = rig.app._ring._services.token
    assert token is not None
    token._session.close()
    # What a server does once a minute; what fails here otherwise than refused ends it.
    rig.call(lambda app: app.prune())
    assert '"new keys are not used"' in rig.log_text
    assert reason(pilot.credentials.RetrieveCredential, retrieve_request(lease)) is Reason.KEY_TOKEN_UNAVAILABLE
    away.rename(pin)
    rig.call(lambda app: app.prune())
    pilot.credentials.RetrieveCredential(retrieve_request(lease))


def test_a_token_that_takes_its_time_holds_nobody_else_up(
    make_rig: Callable[..., Rig], settings: dict[str, object], alice_proxy: Path
) -> None:
    rig = make_rig(pkcs11=settings)
    identity = load_identity(alice_proxy)
    owner, other = rig.client(identity), rig.client(identity)
    other.auth.WhoAmI(auth_pb2.WhoAmIRequest())
    request = complete_request(owner, identity, kind=EC)
    assert rig.app is not None
    token = rig.app._ring._services.token
    assert token is not None
    with ThreadPoolExecutor(1) as threads:
        with token._lock:
            slow = threads.submit(owner.credentials.CompleteDelegation, request)
            with pytest.raises(TimeoutError):
                slow.result(1)
            other.auth.WhoAmI(auth_pb2.WhoAmIRequest(), timeout=5)
        assert slow.result(10).credential.owner_dn


def test_the_server_process_serves_with_a_token(
    grid: ToyGrid, host: Identity, tmp_path: Path, settings: dict[str, object], alice_proxy: Path, pilot_proxy: Path
) -> None:
    server = ServerProcess(grid, tmp_path, host)
    server.config.write_text(config_text(grid, server.state, host, {"pkcs11": settings}))
    try:
        assert "a key in the token" in server.command("init").stdout
        server.start()
        identity = load_identity(alice_proxy)
        with (
            open_channel(server.target, ca_dir=grid.ca_dir, identity=identity) as one,
            open_channel(server.target, ca_dir=grid.ca_dir, identity=load_identity(pilot_proxy)) as two,
        ):
            owner, pilot = Client(one), Client(two)
            submit(owner, delegate(owner, identity, kind=EC))
            lease = acquire(pilot, register(pilot))
            assert server.command("keys", "rotate").returncode == 0
            pilot.credentials.RetrieveCredential(retrieve_request(lease))
        assert server.stop() == 0
    finally:
        server.close()
