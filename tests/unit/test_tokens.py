"""Credential tokens: what the service honours, and what it refuses with which reason."""

import datetime

import jwt
import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from pilotage.errors import PilotageError
from pilotage.reasons import Reason
from pilotage_server import tokens
from pilotage_server.tokens import CredentialClaims

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
