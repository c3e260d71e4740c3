"""Challenges and sessions: made for one server, for a while, and not to be altered."""

import datetime
import struct

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from pilotage.errors import PilotageError
from pilotage.reasons import Reason
from pilotage.secret import Secret
from pilotage_server.auth import challenge as challenge_module
from pilotage_server.auth import sessions
from pilotage_server.auth.challenge import LIFETIME, SIZE, Challenges
from pilotage_server.auth.sessions import Sessions
from pilotage_server.principal import Principal, Proof

NOW = datetime.datetime(2026, 11, 21, 12, 0, tzinfo=datetime.UTC)
SECOND = datetime.timedelta(seconds=1)
AUDIENCE = "pilotage://here:7643"
END = LIFETIME.total_seconds()


class Ticks:
    """A steady clock that goes when it is told to."""

    def __init__(self) -> None:
        self.now = 7000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def ticks() -> Ticks:
    return Ticks()


@pytest.fixture
def desk(ticks: Ticks) -> Challenges:
    return Challenges(ticks)


def refused(challenge: bytes, by: Challenges) -> Reason:
    with pytest.raises(PilotageError) as caught:
        by.check(challenge)
    return caught.value.reason


def spend(desk: Challenges, challenge: bytes) -> Reason | None:
    """Use a challenge as a login does; return why that is refused, if it is."""
    try:
        desk.spend(desk.check(challenge))
    except PilotageError as error:
        return error.reason
    return None


def test_a_challenge_is_good_until_its_end(desk: Challenges, ticks: Ticks) -> None:
    challenge = desk.make()
    assert len(challenge) == SIZE <= 256
    ticks.now += END - 0.001
    desk.check(challenge)
    ticks.now += 0.001
    assert refused(challenge, desk) is Reason.CHALLENGE_EXPIRED


def test_two_challenges_differ(desk: Challenges) -> None:
    first, second = (desk.check(desk.make()).nonce for _ in range(2))
    assert first != second


def test_a_challenge_is_good_for_one_login(desk: Challenges, ticks: Ticks) -> None:
    first, second = desk.make(), desk.make()
    assert spend(desk, first) is None
    for _ in range(12):
        assert spend(desk, first) is Reason.CHALLENGE_USED
        ticks.now += 9
    assert spend(desk, second) is None


def test_of_two_logins_under_way_with_one_challenge_one_gets_in(desk: Challenges) -> None:
    challenge = desk.make()
    first, second = desk.check(challenge), desk.check(challenge)
    desk.spend(second)
    with pytest.raises(PilotageError, match="CHALLENGE_USED"):
        desk.spend(first)


def test_a_login_that_takes_longer_than_a_used_challenge_is_remembered_is_refused(
    desk: Challenges, ticks: Ticks
) -> None:
    challenge = desk.make()
    late = desk.check(challenge)
    assert spend(desk, challenge) is None
    ticks.now += END
    # What ended is forgotten when another is used.
    assert spend(desk, desk.make()) is None
    assert len(desk) == 1
    with pytest.raises(PilotageError, match="CHALLENGE_EXPIRED"):
        desk.spend(late)


def test_used_challenges_are_forgotten_when_they_have_ended_and_not_before(desk: Challenges, ticks: Ticks) -> None:
    old = desk.make()
    ticks.now += END - 1
    young = desk.make()
    assert spend(desk, old) is spend(desk, young) is None
    ticks.now += END - 1
    assert spend(desk, desk.make()) is None
    assert len(desk) == 3
    assert spend(desk, young) is Reason.CHALLENGE_USED
    ticks.now += 1
    assert spend(desk, desk.make()) is None
    assert len(desk) == 2
    assert spend(desk, old) is spend(desk, young) is Reason.CHALLENGE_EXPIRED


def test_a_full_memory_of_used_challenges_refuses_and_forgets_none(
    desk: Challenges, ticks: Ticks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(challenge_module, "MOST_USED", 3)
    used = [desk.make() for _ in range(3)]
    assert [spend(desk, one) for one in used] == [None] * 3
    ticks.now += 1
    more = desk.make()
    assert spend(desk, more) is Reason.RATE_LIMITED
    assert [spend(desk, one) for one in used] == [Reason.CHALLENGE_USED] * 3
    ticks.now += END - 1
    assert spend(desk, more) is None
    assert len(desk) == 1


def test_another_process_takes_no_challenge_of_this_one(desk: Challenges, ticks: Ticks) -> None:
    assert refused(desk.make(), Challenges(ticks)) is Reason.CHALLENGE_INVALID


@given(st.integers(0, SIZE - 1), st.integers(1, 255))
def test_an_altered_challenge_is_refused(place: int, flip: int) -> None:
    desk = Challenges(Ticks())
    challenge = bytearray(desk.make())
    challenge[place] ^= flip
    assert refused(bytes(challenge), desk) is Reason.CHALLENGE_INVALID


@given(st.binary(max_size=300) | st.binary(min_size=SIZE, max_size=SIZE))
def test_what_is_no_challenge_is_refused(text: bytes) -> None:
    assert refused(text, Challenges(Ticks())) is Reason.CHALLENGE_INVALID


def test_a_challenge_tells_nobody_how_long_the_machine_has_been_up(desk: Challenges, ticks: Ticks) -> None:
    assert struct.pack(">d", ticks.now) not in desk.make()


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
