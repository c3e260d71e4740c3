"""Sealed credentials open with both keys, for their own row, and not otherwise."""

import datetime
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotage.errors import PilotageError
from pilotage.reasons import Reason
from pilotage.secret import Secret
from pilotage_server.credentials.sealing import Sealer

SERVICE = Secret(b"s" * 32)
RETRIEVAL = Secret(b"r" * 32)
VALUE = Secret(b"the private key")
OWNER = "/O=Toy Grid/CN=Alice"
END = datetime.datetime(2026, 11, 21, 12, 0, tzinfo=datetime.UTC)
SEALED = Sealer(SERVICE).seal(VALUE, RETRIEVAL, OWNER, "c-1", END)


def refused(
    sealed: bytes = SEALED,
    retrieval: Secret = RETRIEVAL,
    owner: str = OWNER,
    credential: str = "c-1",
    end: datetime.datetime = END,
    sealer: Sealer | None = None,
) -> Reason:
    with pytest.raises(PilotageError) as caught:
        (sealer or Sealer(SERVICE)).unseal(sealed, retrieval, owner, credential, end)
    return caught.value.reason


def test_a_sealed_value_opens_with_both_keys() -> None:
    assert Sealer(SERVICE).unseal(SEALED, RETRIEVAL, OWNER, "c-1", END) == VALUE
    assert VALUE.reveal() not in SEALED
    assert RETRIEVAL.reveal() not in SEALED


def test_sealing_twice_gives_two_blobs() -> None:
    assert Sealer(SERVICE).seal(VALUE, RETRIEVAL, OWNER, "c-1", END) != SEALED


@pytest.mark.parametrize("key", [b"", b"r" * 31, b"r" * 33, b"R" * 32, b"\0" * 32])
def test_a_wrong_retrieval_key_is_refused(key: bytes) -> None:
    assert refused(retrieval=Secret(key)) is Reason.RETRIEVAL_KEY_WRONG


def test_a_blob_moved_to_another_row_does_not_open() -> None:
    assert refused(owner="/O=Toy Grid/CN=Bob") is Reason.RETRIEVAL_KEY_WRONG
    assert refused(credential="c-2") is Reason.RETRIEVAL_KEY_WRONG
    assert refused(end=END + datetime.timedelta(seconds=1)) is Reason.RETRIEVAL_KEY_WRONG


@given(st.integers(0, len(SEALED) - 1), st.integers(1, 255))
def test_an_altered_blob_does_not_open(place: int, flip: int) -> None:
    altered = bytearray(SEALED)
    altered[place] ^= flip
    assert refused(bytes(altered)) in (Reason.RETRIEVAL_KEY_WRONG, Reason.CREDENTIAL_DESTROYED)


@given(st.binary(max_size=200))
def test_what_is_no_blob_does_not_open(text: bytes) -> None:
    assert refused(text) in (Reason.RETRIEVAL_KEY_WRONG, Reason.CREDENTIAL_DESTROYED)


def test_after_a_rotation_old_blobs_open_and_new_ones_name_the_new_key() -> None:
    new = Secret(os.urandom(32))
    rotated = Sealer(new, [SERVICE])
    assert rotated.unseal(SEALED, RETRIEVAL, OWNER, "c-1", END) == VALUE
    fresh = rotated.seal(VALUE, RETRIEVAL, OWNER, "c-1", END)
    assert Sealer(new).unseal(fresh, RETRIEVAL, OWNER, "c-1", END) == VALUE
    assert refused(fresh) is Reason.CREDENTIAL_DESTROYED


def test_a_blob_whose_service_key_was_thrown_away_is_lost() -> None:
    assert refused(sealer=Sealer(Secret(os.urandom(32)))) is Reason.CREDENTIAL_DESTROYED
