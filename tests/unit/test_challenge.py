"""Challenges and sessions: made for one server, for a while, and not to be altered."""

import datetime

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from pilotage.errors import PilotageError
from pilotage.reasons import Reason
from pilotage.secret import Secret
from pilotage_server.auth import sessions
from pilotage_server.auth.challenge import LIFETIME, SIZE, Challenges
from pilotage_server.auth.sessions import Sessions
from pilotage_server.principal import Principal, Proof

NOW = datetime.datetime(2026, 11, 21, 12, 0, tzinfo=datetime.UTC)
SECOND = datetime.timedelta(seconds=1)
AUDIENCE = "pilotage://here:7643"
KEY = Secret(b"k" * 32)
CHALLENGES = Challenges(KEY, AUDIENCE)


def refused(challenge: bytes, now: datetime.datetime = NOW, by: Challenges = CHALLENGES) -> Reason:
    with pytest.raises(PilotageError) as caught:
        by.check(challenge, now)
    return caught.value.reason


def test_a_challenge_is_good_until_its_end() -> None:
    challenge, end = CHALLENGES.make(NOW)
    assert len(challenge) == SIZE <= 256
    assert end == NOW + LIFETIME
    assert CHALLENGES.check(challenge, end - SECOND).expire_time == end
    assert refused(challenge, end) is Reason.CHALLENGE_EXPIRED


def test_two_challenges_differ() -> None:
    first, second = (CHALLENGES.check(CHALLENGES.make(NOW)[0], NOW).nonce for _ in range(2))
    assert first != second


def test_a_replica_with_the_same_key_takes_a_challenge() -> None:
    Challenges(Secret(b"k" * 32), AUDIENCE).check(CHALLENGES.make(NOW)[0], NOW)


def test_a_challenge_of_another_server_is_refused() -> None:
    foreign = Challenges(Secret(b"x" * 32), AUDIENCE).make(NOW)[0]
    assert refused(foreign) is Reason.CHALLENGE_INVALID


def test_a_challenge_for_another_audience_is_refused() -> None:
    assert refused(Challenges(KEY, "pilotage://there").make(NOW)[0]) is Reason.AUDIENCE_MISMATCH


def test_a_challenge_from_the_future_is_refused() -> None:
    assert refused(CHALLENGES.make(NOW + 60 * SECOND)[0]) is Reason.CHALLENGE_INVALID


@given(st.integers(0, SIZE - 1), st.integers(1, 255))
def test_an_altered_challenge_is_refused(place: int, flip: int) -> None:
    challenge = bytearray(CHALLENGES.make(NOW)[0])
    challenge[place] ^= flip
    assert refused(bytes(challenge)) is Reason.CHALLENGE_INVALID


@given(st.binary(max_size=300))
def test_what_is_no_challenge_is_refused(text: bytes) -> None:
    assert refused(text) is Reason.CHALLENGE_INVALID


# sessions

SIGNER = Ed25519PrivateKey.generate()
ALICE = Principal(
    dn="/O=Toy Grid/CN=Alice",
    vo="demo",
    fqans=("/demo/Role=analysis", "/demo"),
    limited=False,
    thumbprint=b"t" * 32,
    proof=Proof.SESSION,
    expire_time=NOW + 7200 * SECOND,
)


def session_refused(token: Secret, now: datetime.datetime = NOW) -> Reason:
    with pytest.raises(PilotageError) as caught:
        Sessions(SIGNER, AUDIENCE).verify(token, now)
    return caught.value.reason


def test_a_session_gives_back_the_principal_for_an_hour() -> None:
    desk = Sessions(SIGNER, AUDIENCE)
    token, end = desk.open(ALICE, NOW)
    assert end == NOW + 3600 * SECOND
    for place in (desk, Sessions(SIGNER, AUDIENCE)):
        for _ in range(2):
            seen = place.verify(token, end - SECOND)
            assert (seen.dn, seen.fqans, seen.limited, seen.thumbprint) == (
                ALICE.dn,
                ALICE.fqans,
                ALICE.limited,
                ALICE.thumbprint,
            )
        with pytest.raises(PilotageError, match="SESSION_EXPIRED"):
            place.verify(token, end)


def test_who_opened_a_session_knows_its_bearer_as_everybody_else_does() -> None:
    desk = Sessions(SIGNER, AUDIENCE)
    token, _ = desk.open(ALICE, NOW)
    assert desk.verify(token, NOW) == Sessions(SIGNER, AUDIENCE).verify(token, NOW)


def test_a_session_ends_with_the_chain_it_was_made_from() -> None:
    import msgspec

    short = msgspec.structs.replace(ALICE, expire_time=NOW + 90 * SECOND)
    assert Sessions(SIGNER, AUDIENCE).open(short, NOW)[1] == NOW + 90 * SECOND
    over = msgspec.structs.replace(ALICE, expire_time=NOW)
    with pytest.raises(PilotageError, match="PROXY_EXPIRED"):
        Sessions(SIGNER, AUDIENCE).open(over, NOW)


def test_a_session_of_another_server_is_refused() -> None:
    other_key, _ = Sessions(Ed25519PrivateKey.generate(), AUDIENCE).open(ALICE, NOW)
    assert session_refused(other_key) is Reason.SESSION_INVALID
    other_audience, _ = Sessions(SIGNER, "pilotage://there").open(ALICE, NOW)
    assert session_refused(other_audience) is Reason.AUDIENCE_MISMATCH


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "another"},
        {"exp": int(NOW.timestamp()) + 3601},
        {"iat": int(NOW.timestamp()) + 600, "exp": int(NOW.timestamp()) + 700},
        {"dn": None},
        {"thumbprint": "zz"},
        {"limited": "no"},
    ],
)
def test_a_session_with_wrong_claims_is_refused(changes: dict[str, object]) -> None:
    token, _ = Sessions(SIGNER, AUDIENCE).open(ALICE, NOW)
    body = jwt.decode(token.reveal_text(), options={"verify_signature": False}) | changes
    kept = {name: value for name, value in body.items() if value is not None}
    assert session_refused(Secret(jwt.encode(kept, SIGNER, algorithm="EdDSA"))) is Reason.SESSION_INVALID


@given(st.text(max_size=80))
def test_what_is_no_session_is_refused(text: str) -> None:
    try:
        Secret(text)
    except UnicodeEncodeError:
        return
    assert session_refused(Secret(text)) is Reason.SESSION_INVALID


def test_the_cache_of_sessions_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "CACHE_SIZE", 3)
    desk = Sessions(SIGNER, AUDIENCE)
    for second in range(10):
        desk.verify(desk.open(ALICE, NOW - second * SECOND)[0], NOW)
    assert len(desk._seen) == 3
