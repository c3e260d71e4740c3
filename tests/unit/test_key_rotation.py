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
from pilotage_server.credentials.sealing import Sealer
from pilotage_server.tokens import CredentialClaims, RetiredKey, TokenKeys
from support.server_process import environ

NOW = datetime.datetime(2026, 11, 28, 12, tzinfo=datetime.UTC)
END = NOW + datetime.timedelta(days=30)
RETRIEVAL = Secret(b"r" * 32)
VALUE = Secret(b"the private key")
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
@pytest.mark.parametrize("after", [0, 1, 2, 3])
def test_a_rotation_that_fails_at_any_step_leaves_a_working_set(
    folder: Path, monkeypatch: pytest.MonkeyPatch, step: str, after: int
) -> None:
    sealed, token = seal(folder), keys.load(folder).token_keys().sign(CLAIMS, NOW).reveal_text()
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
    keys.rotate(folder, "service", later(1))
    keys.rotate(folder, "token", later(1))
    assert opens(folder, sealed)
    assert keys.load(folder).token_keys().verify(token, later(10)) == CLAIMS


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
