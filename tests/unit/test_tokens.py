"""Credential tokens: what the service honours, and what it refuses with which reason."""

import datetime

import jwt
import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from pilotage.errors import PilotageError
from pilotage.reasons import Reason
from pilotage_server import tokens
from pilotage_server.tokens import CredentialClaims, RetiredKey, TokenKeys

NOW = datetime.datetime(2026, 11, 21, 12, 0, tzinfo=datetime.UTC)
CLAIMS = CredentialClaims(
    jti="j-1",
    lease_id="l-1",
    job_id="7",
    attempt=1,
    owner_dn="/O=Toy Grid/CN=Alice",
    credential_id="c-1",
    pilot_dn="/O=Toy Grid/CN=Robot",
    pilot_thumbprint="ab" * 32,
)
KEY = Ed25519PrivateKey.generate()


def refused(token: str, now: datetime.datetime = NOW) -> Reason:
    with pytest.raises(PilotageError) as caught:
        tokens.verify(token, KEY.public_key(), now)
    return caught.value.reason


def forge(**changes: object) -> str:
    """Sign altered claims with the right key."""
    body = msgspec.to_builtins(CLAIMS) | {"iss": tokens.ISSUER, "aud": tokens.AUDIENCE}
    issued = int(NOW.timestamp())
    body |= {"iat": issued, "exp": issued + 300} | changes
    return jwt.encode({name: value for name, value in body.items() if value is not None}, KEY, algorithm="EdDSA")


def test_a_token_gives_back_its_claims() -> None:
    token = tokens.sign(CLAIMS, KEY, NOW)
    assert tokens.verify(token.reveal_text(), KEY.public_key(), NOW) == CLAIMS


def test_a_token_is_refused_after_five_minutes() -> None:
    token = tokens.sign(CLAIMS, KEY, NOW).reveal_text()
    tokens.verify(token, KEY.public_key(), NOW + datetime.timedelta(seconds=299))
    assert refused(token, NOW + datetime.timedelta(seconds=300)) is Reason.TOKEN_EXPIRED


def test_a_token_of_another_key_is_refused() -> None:
    assert refused(tokens.sign(CLAIMS, Ed25519PrivateKey.generate(), NOW).reveal_text()) is Reason.TOKEN_INVALID


@pytest.mark.parametrize("part", [0, 1, 2])
def test_an_altered_token_is_refused(part: int) -> None:
    parts = tokens.sign(CLAIMS, KEY, NOW).reveal_text().split(".")
    parts[part] = ("A" if parts[part][5] != "A" else "B").join((parts[part][:5], parts[part][6:]))
    assert refused(".".join(parts)) is Reason.TOKEN_INVALID


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": "another"},
        {"iss": "another"},
        {"jti": None},
        {"lease_id": None},
        {"pilot_thumbprint": None},
        {"attempt": "1"},
        {"exp": None},
        {"exp": int(NOW.timestamp()) + 301},
        {"iat": int(NOW.timestamp()) + 120, "exp": int(NOW.timestamp()) + 300},
        {"exp": "soon"},
    ],
)
def test_a_genuine_signature_over_wrong_claims_is_refused(changes: dict[str, object]) -> None:
    assert refused(forge(**changes)) is Reason.TOKEN_INVALID


def test_a_token_without_signature_is_refused() -> None:
    body = forge().split(".")[1]
    assert refused(f"eyJhbGciOiJub25lIn0.{body}.") is Reason.TOKEN_INVALID


@pytest.mark.parametrize("text", ["", "a", "a.b.c", "....", "\0", "é" * 10])
def test_what_is_no_token_is_refused(text: str) -> None:
    assert refused(text) is Reason.TOKEN_INVALID


# Where one process signs and verifies


def outcome(held: TokenKeys, token: str, now: datetime.datetime = NOW) -> CredentialClaims | Reason:
    try:
        return held.verify(token, now)
    except PilotageError as error:
        return error.reason


def test_a_token_that_was_signed_here_says_the_same_each_time_and_to_others() -> None:
    held = TokenKeys(KEY)
    token = held.sign(CLAIMS, NOW).reveal_text()
    assert [outcome(held, token) for _ in range(3)] == [CLAIMS] * 3
    assert outcome(TokenKeys(KEY), token) == CLAIMS


def test_a_token_that_was_signed_here_ends_as_any_other() -> None:
    for now, reason in (
        (NOW + datetime.timedelta(seconds=300), Reason.TOKEN_EXPIRED),
        (NOW - datetime.timedelta(seconds=61), Reason.TOKEN_INVALID),
    ):
        held = TokenKeys(KEY)
        token = held.sign(CLAIMS, NOW).reveal_text()
        assert [outcome(held, token, now) for _ in range(2)] == [reason] * 2


def test_a_token_that_was_signed_here_is_altered_by_one_bit() -> None:
    held = TokenKeys(KEY)
    token = held.sign(CLAIMS, NOW).reveal_text()
    for place in range(0, len(token), 7):
        other = token[:place] + chr(ord(token[place]) ^ 1) + token[place + 1 :]
        assert outcome(held, other) is Reason.TOKEN_INVALID
    assert outcome(held, token) == CLAIMS


def test_what_a_key_signed_here_is_gone_with_the_key() -> None:
    held = TokenKeys(KEY)
    kept, lost = (held.sign(CLAIMS, NOW).reveal_text() for _ in range(2))
    held.replace(Ed25519PrivateKey.generate(), [RetiredKey(KEY.public_key(), NOW)])
    assert outcome(held, kept) == CLAIMS
    held.replace(Ed25519PrivateKey.generate(), [])
    assert outcome(held, lost) is Reason.TOKEN_INVALID


def test_no_more_tokens_are_remembered_than_a_bound_and_the_rest_is_verified(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "SIGNED", 2)
    held = TokenKeys(KEY)
    made = [held.sign(msgspec.structs.replace(CLAIMS, attempt=number), NOW).reveal_text() for number in range(5)]
    assert len(held._signed) == 2
    assert [outcome(held, token) for token in made] == [
        msgspec.structs.replace(CLAIMS, attempt=number) for number in range(5)
    ]
    assert not held._signed
