"""Keys are rotated in steps after each of which every key that was ever present is there; and nobody waits."""

import datetime
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from pilotage.errors import PilotageError
from pilotage.reasons import Reason
from pilotage.secret import Secret
from pilotage_server import keys, tokens
from pilotage_server.auth.sessions import Sessions
from pilotage_server.credentials.sealing import Sealer
from pilotage_server.jobs.wrapping import PREFIX_BYTES, KeyWrap
from pilotage_server.principal import Principal, Proof
from pilotage_server.tokens import CredentialClaims, RetiredKey, TokenKeys
from support.server_process import environ

NOW = datetime.datetime(2026, 11, 28, 12, tzinfo=datetime.UTC)
END = NOW + datetime.timedelta(days=30)
RETRIEVAL = Secret(b"r" * 32)
VALUE = Secret(b"the private key")
AUDIENCE = "pilotage://localhost"
JOB = {"job_id": "7", "owner_dn": "/O=x/CN=Alice", "credential_id": "c"}
ALICE = Principal("/O=x/CN=Alice", "x", (), False, b"t" * 32, Proof.SESSION, END)
CLAIMS = CredentialClaims("j", "l", "7", 1, "/O=x/CN=Alice", "c", "/O=x/CN=Robot", "ab" * 32)


def later(seconds: float) -> datetime.datetime:
    return NOW + datetime.timedelta(seconds=seconds)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    keys.make_missing(tmp_path / "keys")
    return tmp_path / "keys"


def sealer(folder: Path) -> Sealer:
    loaded = keys.load(folder)
    assert loaded.service is not None
    return Sealer(loaded.service, loaded.old_services)


def held(folder: Path) -> set[bytes]:
    """Return every service key that a server would have."""
    return {keys.read_key(path).reveal() for path in folder.glob("service*.key")}


def opens(folder: Path, sealed: bytes) -> bool:
    return sealer(folder).unseal(sealed, RETRIEVAL, "/CN=Alice", "c", END) == VALUE


def seal(folder: Path) -> bytes:
    return sealer(folder).seal(VALUE, RETRIEVAL, "/CN=Alice", "c", END)


def sessions(folder: Path) -> Sessions:
    held = keys.load(folder)
    return Sessions(held.session, AUDIENCE, held.old_sessions)


def wrapping(folder: Path) -> KeyWrap:
    held = keys.load(folder)
    return KeyWrap(held.wrap, [old.key for old in held.old_wraps])


def wrap(folder: Path) -> bytes:
    return wrapping(folder).wrap(RETRIEVAL, **JOB)


def unwrap(folder: Path, wrapped: bytes) -> Secret:
    return wrapping(folder).unwrap(wrapped, **JOB)


def test_a_rotated_service_key_seals_anew_and_every_old_one_still_opens(folder: Path) -> None:
    sealed = [seal(folder)]
    for number in range(3):
        old = keys.rotate(folder, "service", later(number))
        assert (folder / old).stat().st_mode & 0o777 == 0o600
        sealed.append(seal(folder))
    assert len({blob[1:9] for blob in sealed}) == 4
    assert all(opens(folder, blob) for blob in sealed)
    assert (folder / "service.key").stat().st_mode & 0o777 == 0o600
    assert len(keys.load(folder).old_services) == 3
    assert not list(folder.glob(".*"))


@pytest.mark.parametrize("step", ["link", "replace", "fsync"])
@pytest.mark.parametrize("after", [0, 1, 2, 3, 4, 7, 10, 13])
def test_a_rotation_that_fails_at_any_step_leaves_a_working_set(
    folder: Path, monkeypatch: pytest.MonkeyPatch, step: str, after: int
) -> None:
    sealed, token = seal(folder), keys.load(folder).token_keys().sign(CLAIMS, NOW).reveal_text()
    session, wrapped = sessions(folder).open(ALICE, NOW)[0], wrap(folder)
    calls = 0
    real: Callable[..., object] = getattr(Path if step == "replace" else os, step)

    def fail(*values: object) -> object:
        nonlocal calls
        calls += 1
        if calls > after:
            raise OSError(28, "No space left on device")
        return real(*values)

    with monkeypatch.context() as broken:
        broken.setattr(Path if step == "replace" else os, step, fail)
        for kind in keys.ROTATED:
            try:
                keys.rotate(folder, kind, NOW)
            except OSError:
                continue
    assert not list(folder.glob(".*"))
    assert opens(folder, sealed)
    assert keys.load(folder).token_keys().verify(token, later(10)) == CLAIMS
    for again in (1, 2):
        assert sessions(folder).verify(session, later(10)).dn == ALICE.dn
        assert unwrap(folder, wrapped) == RETRIEVAL
        for kind in keys.ROTATED:
            keys.rotate(folder, kind, later(again))
        assert opens(folder, sealed)
        assert keys.load(folder).token_keys().verify(token, later(10)) == CLAIMS
        assert not list(folder.glob(".*"))


def test_a_rotation_killed_again_and_again_loses_no_key(folder: Path) -> None:
    code = textwrap.dedent("""
        import datetime, sys
        from pathlib import Path
        from pilotage_server import keys
        folder = Path(sys.argv[1])
        print("ready", flush=True)
        while True:
            keys.rotate(folder, "service", datetime.datetime.now(datetime.UTC))
            print(folder.joinpath("service.key").read_bytes().hex(), flush=True)
    """)
    present = {(folder / "service.key").read_bytes()}
    sealed = [seal(folder)]
    for _ in range(6):
        child = subprocess.Popen(
            [sys.executable, "-c", code, str(folder)], env=environ(), stdout=subprocess.PIPE, text=True
        )
        assert child.stdout is not None
        lines = [child.stdout.readline() for _ in range(4)]
        child.send_signal(signal.SIGKILL)
        lines += child.stdout.readlines()
        child.wait()
        present |= {bytes.fromhex(line) for line in lines[1:] if len(line) == 65}
        sealed.append(seal(folder))
    assert present <= held(folder)
    assert all(opens(folder, blob) for blob in sealed)


def test_two_rotations_at_once_lose_no_key(folder: Path) -> None:
    sealed = seal(folder)
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda number: keys.rotate(folder, "service", later(number)), range(16)))
    assert len(held(folder)) == 17
    assert opens(folder, sealed)


def test_keys_that_others_may_read_are_neither_rotated_nor_loaded(folder: Path) -> None:
    (folder / "service.key").chmod(0o640)
    with pytest.raises(PilotageError, match="chmod 600"):
        keys.rotate(folder, "service", NOW)
    (folder / "service.key").chmod(0o600)
    old = keys.rotate(folder, "service", NOW)
    (folder / old).chmod(0o604)
    with pytest.raises(PilotageError, match="chmod 600"):
        keys.load(folder)


def test_a_retired_key_whose_name_tells_no_time_is_refused(folder: Path) -> None:
    (folder / "token-old.key").write_bytes(b"x" * 32)
    (folder / "token-old.key").chmod(0o600)
    with pytest.raises(PilotageError, match="does not tell when"):
        keys.load(folder)


# tokens


def refusal(held: TokenKeys, token: str, now: datetime.datetime) -> Reason:
    with pytest.raises(PilotageError) as caught:
        held.verify(token, now)
    return caught.value.reason


def test_old_tokens_are_good_to_their_end_and_new_ones_name_the_new_key(folder: Path) -> None:
    before = keys.load(folder).token_keys().sign(CLAIMS, NOW).reveal_text()
    keys.rotate(folder, "token", later(1))
    held = keys.load(folder).token_keys()
    after = held.sign(CLAIMS, later(2)).reveal_text()
    assert held.verify(before, later(299)) == held.verify(after, later(299)) == CLAIMS
    assert refusal(held, before, later(300)) is Reason.TOKEN_EXPIRED
    with pytest.raises(PilotageError, match="TOKEN_INVALID"):
        tokens.verify(before, held.private.public_key(), later(2))


def test_a_stolen_old_key_signs_nothing_once_its_last_token_is_over() -> None:
    stolen = Ed25519PrivateKey.generate()
    held = TokenKeys(Ed25519PrivateKey.generate(), [RetiredKey(stolen.public_key(), NOW)])
    for seconds, expected in ((299, None), (300, Reason.TOKEN_INVALID), (10**6, Reason.TOKEN_INVALID)):
        forged = tokens.sign(CLAIMS, stolen, later(seconds - 1)).reveal_text()
        if expected is None:
            held.verify(forged, later(seconds))
        else:
            assert refusal(held, forged, later(seconds)) is expected


def test_a_token_of_no_key_of_ours_is_refused_whatever_was_retired() -> None:
    held = TokenKeys(Ed25519PrivateKey.generate(), [RetiredKey(Ed25519PrivateKey.generate().public_key(), NOW)])
    foreign = tokens.sign(CLAIMS, Ed25519PrivateKey.generate(), NOW).reveal_text()
    assert refusal(held, foreign, NOW) is Reason.TOKEN_INVALID


def test_retired_token_keys_are_forgotten_after_an_hour_and_service_keys_are_not(folder: Path) -> None:
    token, service = keys.rotate(folder, "token", NOW), keys.rotate(folder, "service", NOW)
    assert keys.forget_retired(folder, later(3600)) == []
    assert keys.forget_retired(folder, later(3601)) == [token]
    assert (folder / service).exists()
    assert not (folder / token).exists()


def test_what_tells_of_a_change_is_another_after_each(folder: Path) -> None:
    states = [keys.seen(folder)]
    assert keys.seen(folder) == states[0]
    keys.rotate(folder, "token", NOW)
    states.append(keys.seen(folder))
    keys.rotate(folder, "service", NOW)
    states.append(keys.seen(folder))
    assert len(set(states)) == 3


# sessions, wrapped keys


def test_a_session_of_a_retired_key_is_good_to_its_end_and_none_is_made_with_a_stolen_one(folder: Path) -> None:
    token, _ = sessions(folder).open(ALICE, NOW)
    old = keys.load(folder).session
    keys.rotate(folder, "session", NOW)
    held = sessions(folder)
    assert held.verify(token, later(3599)).dn == ALICE.dn
    with pytest.raises(PilotageError, match="SESSION_EXPIRED"):
        held.verify(token, later(3600))
    # A thief of the old key writes what dates he likes: they end with the last true session.
    end = 3600 + keys.TAKE_UP.total_seconds()
    forged, _ = Sessions(old, AUDIENCE).open(ALICE, later(end - 10))
    assert held.verify(forged, later(end - 1)).expire_time == later(end)
    for now in (end, end + 600):
        with pytest.raises(PilotageError, match=r"SESSION_EXPIRED|SESSION_INVALID"):
            held.verify(forged, later(now))
    with pytest.raises(PilotageError, match="SESSION_INVALID"):
        sessions(folder).verify(forged, later(end))


def test_a_key_that_is_neither_present_nor_retired_verifies_no_session_not_even_one_seen_before() -> None:
    first, second = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    held = Sessions(first, AUDIENCE)
    token, _ = held.open(ALICE, NOW)
    held.verify(token, NOW)
    held.replace(second, [])
    with pytest.raises(PilotageError, match="SESSION_INVALID"):
        held.verify(token, NOW)
    held.replace(second, [RetiredKey(first.public_key(), NOW)])
    assert held.verify(token, NOW).dn == ALICE.dn


def test_a_wrapped_key_names_its_key_and_the_older_form_without_a_name_opens_too(folder: Path) -> None:
    nameless = wrap(folder)[PREFIX_BYTES:]
    before = wrap(folder)
    keys.rotate(folder, "wrap", NOW)
    assert unwrap(folder, nameless) == unwrap(folder, before) == unwrap(folder, wrap(folder)) == RETRIEVAL
    (old,) = keys.load(folder).old_wraps
    keys.destroy(folder / old.name)
    for wrapped in (nameless, before):
        with pytest.raises(PilotageError, match="RETRIEVAL_KEY_WRONG"):
            unwrap(folder, wrapped)


# destruction


def test_a_destroyed_key_is_overwritten_and_gone(folder: Path) -> None:
    old = folder / keys.rotate(folder, "wrap", NOW)
    with old.open("rb") as held:
        keys.destroy(old)
        assert held.read() == bytes(32)
    assert not old.exists()
    assert not list(folder.glob(".*"))
    keys.destroy(old)


def test_destroying_a_key_spares_the_present_one_that_a_crash_left_by_two_names(folder: Path) -> None:
    present = (folder / "wrap.key").read_bytes()
    os.link(folder / "wrap.key", folder / "wrap-20261128T120000.000000Z.key")
    keys.destroy(folder / "wrap-20261128T120000.000000Z.key")
    assert (folder / "wrap.key").read_bytes() == present
    assert len(keys.load(folder).old_wraps) == 0


def test_what_a_killed_rotation_or_destruction_left_is_wiped_after_an_hour(folder: Path) -> None:
    fresh, left = folder / ".wrap.key.00112233", folder / ".session-20261128T120000.000000Z.key.44556677"
    for path in (fresh, left):
        path.write_bytes(b"x" * 32)
    os.utime(left, (1, 1))
    assert keys.forget_retired(folder, NOW) == []
    assert fresh.exists()
    assert not left.exists()


def test_retired_keys_are_kept_as_long_as_what_they_signed_lives(folder: Path) -> None:
    names = {kind: keys.rotate(folder, kind, NOW) for kind in keys.ROTATED}
    assert keys.forget_retired(folder, later(3601)) == [names["token"]]
    assert keys.forget_retired(folder, later(7200)) == []
    assert keys.forget_retired(folder, later(7201)) == [names["session"]]
    assert all((folder / names[kind]).exists() for kind in ("service", "wrap"))


def test_a_key_that_was_used_longer_than_a_rotation_allows_for_is_retired_when_it_was_taken_out_of_use(
    folder: Path,
) -> None:
    used = keys.load(folder)
    names = {kind: keys.rotate(folder, kind, NOW) for kind in keys.ROTATED}
    assert not keys.retire_late(folder, used, later(119))
    assert all((folder / name).exists() for name in names.values())
    assert keys.retire_late(folder, used, later(7200))
    for kind, name in names.items():
        assert (folder / name).exists() is (kind in ("service", "wrap"))
    assert not keys.retire_late(folder, used, later(7201))
    assert not keys.retire_late(folder, keys.load(folder), later(90000))
    late = later(7200) + keys.TAKE_UP
    held = keys.load(folder)
    retired = (held.old_tokens, held.old_sessions)
    assert [[one.retire_time for one in kind] for kind in retired] == [[late]] * 2
