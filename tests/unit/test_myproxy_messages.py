"""MyProxy's messages: what the stock clients send is read, and nothing else does any harm."""

import contextlib
import string

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from hypothesis import given
from hypothesis import strategies as st

from pilotage.errors import PilotageError
from pilotage.myproxy.client import _prove
from pilotage.myproxy.messages import (
    LARGEST_VALUE,
    LONGEST_LIFETIME,
    Answer,
    Command,
    Kind,
    Request,
    der_length,
    format_challenge,
    format_error,
    format_ok,
    format_request,
    parse_answer,
    parse_request,
)
from pilotage.reasons import Reason
from pilotage.secret import Secret
from pilotage.x509.files import LocalIdentity
from pilotage.x509.keys import KeyKind, make_key

STOCK = (
    b"VERSION=MYPROXYv2\nCOMMAND=1\nUSERNAME=alice\nPASSPHRASE=open sesame\nLIFETIME=43200\n"
    b"RETRIEVER=*\nRENEWER=/O=Grid/CN=r\nCRED_NAME=panda\nCRED_DESC=for PanDA\nRETRIEVER_TRUSTED=*/CN=pilot\n"
    b"KEYRETRIEVERS=/O=Grid/CN=k\nSOMETHING_NEW=1\n"
)
PRINTABLE = st.text(string.ascii_letters + string.digits + " /=.-*", max_size=40)


def why(text: bytes) -> Reason:
    with pytest.raises(PilotageError) as caught:
        parse_request(text)
    return caught.value.reason


def test_a_stock_request_is_read_whole() -> None:
    assert parse_request(STOCK) == Request(
        command=Command.PUT,
        username="alice",
        passphrase=Secret("open sesame"),
        lifetime_seconds=43200,
        name="panda",
        description="for PanDA",
        retrievers="*",
        renewers="/O=Grid/CN=r",
        trusted_retrievers="*/CN=pilot",
        key_retrievers="/O=Grid/CN=k",
    )


def test_a_request_does_not_print_its_pass_phrase() -> None:
    assert "sesame" not in repr(parse_request(STOCK))


def test_a_value_does_not_pass_for_another_field() -> None:
    request = parse_request(b"VERSION=MYPROXYv2\nCOMMAND=0\nUSERNAME=a PASSPHRASE=b COMMAND=3\nPASSPHRASE=p\n")
    assert (request.command, request.username) == (Command.GET, "a PASSPHRASE=b COMMAND=3")


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\n",
        b"\xff\xfe\x00",
        b"VERSION=MYPROXYv1\nCOMMAND=0\n",
        b"version=MYPROXYv2\nCOMMAND=0\n",
        b"VERSION=MYPROXYv2\n",
        b"VERSION=MYPROXYv2\nCOMMAND=8\n",
        b"VERSION=MYPROXYv2\nCOMMAND=-1\n",
        b"VERSION=MYPROXYv2\nCOMMAND=00\n",
        b"VERSION=MYPROXYv2\nCOMMAND=0\nUSERNAME\n",
        b"VERSION=MYPROXYv2\nCOMMAND=0\nUSERNAME=a\nUSERNAME=b\n",
        b"VERSION=MYPROXYv2\nCOMMAND=0\nUSERNAME=a\tb\n",
        b"VERSION=MYPROXYv2\nCOMMAND=0\nUSERNAME=\xc3\xa9\n",
        b"VERSION=MYPROXYv2\nCOMMAND=0\nLIFETIME=-1\n",
        b"VERSION=MYPROXYv2\nCOMMAND=0\nLIFETIME=1e3\n",
        b"VERSION=MYPROXYv2\nCOMMAND=0\nLIFETIME=\n",
        b"VERSION=MYPROXYv2\nCOMMAND=0\nLIFETIME=%d\n" % (LONGEST_LIFETIME + 1),
        b"VERSION=MYPROXYv2\nCOMMAND=0\nLIFETIME=" + b"9" * 400 + b"\n",
        b"VERSION=MYPROXYv2\nCOMMAND=0\nPASSPHRASE=" + b"p" * 1025 + b"\n",
        b"VERSION=MYPROXYv2\nCOMMAND=0\nX=" + b"x" * (LARGEST_VALUE + 1) + b"\n",
        b"VERSION=MYPROXYv2\nCOMMAND=0\n" + b"".join(b"X%d=\n" % number for number in range(70)),
    ],
)
def test_a_malformed_request_is_refused(text: bytes) -> None:
    assert why(text) is Reason.MYPROXY_MALFORMED


@given(st.binary(max_size=600))
def test_no_bytes_do_more_than_be_refused(text: bytes) -> None:
    assert why(text) is Reason.MYPROXY_MALFORMED


@given(
    st.lists(
        st.sampled_from(STOCK.split(b"\n")) | st.binary(max_size=30),
        max_size=20,
    )
)
def test_no_lines_do_more_than_be_refused(lines: list[bytes]) -> None:
    with contextlib.suppress(PilotageError):
        assert parse_request(b"\n".join(lines)).username in ("", "alice")


@given(
    username=PRINTABLE,
    name=PRINTABLE,
    phrase=st.binary(max_size=1024).filter(lambda value: not set(value) & {0, 10}),
    seconds=st.integers(0, LONGEST_LIFETIME),
)
def test_what_our_client_writes_is_what_is_read(username: str, name: str, phrase: bytes, seconds: int) -> None:
    request = Request(
        command=Command.GET, username=username, name=name, passphrase=Secret(phrase), lifetime_seconds=seconds
    )
    written = format_request(request)
    assert written.endswith(b"\0")
    assert written.count(b"\0") == 1
    assert parse_request(written[:-1]) == request


@pytest.mark.parametrize(
    "request_",
    [
        Request(command=Command.GET, username="a\nCOMMAND=3"),
        Request(command=Command.GET, username="a", passphrase=Secret("b\nc")),
        Request(command=Command.GET, username="a", passphrase=Secret("b\0c")),
        Request(command=Command.GET, username="a", passphrase=Secret("b" * 1025)),
        Request(command=Command.GET, username="a", name="b\nc"),
    ],
)
def test_our_client_writes_nothing_that_would_be_two_lines(request_: Request) -> None:
    with pytest.raises(PilotageError) as caught:
        format_request(request_)
    assert caught.value.reason is Reason.INVALID_ARGUMENT


def test_answers_are_read_as_they_are_written() -> None:
    assert parse_answer(format_ok([("X", "y")])[:-1]).kind is Kind.OK
    refused = parse_answer(format_error("USERNAME_TAKEN", "no\x1b[31m\nERROR=more")[:-1])
    assert refused.errors == ("USERNAME_TAKEN: no?[31m?ERROR=more",)
    asked = parse_answer(format_challenge(["X509_certificate"], "ab" * 16)[:-1])
    assert (asked.kind, asked.challenges) == (Kind.CHALLENGE, (("X509_certificate", "ab" * 16),))


def test_an_error_of_several_lines_is_read_whole() -> None:
    """The real server breaks long errors."""
    answer = parse_answer(b"VERSION=MYPROXYv2\nRESPONSE=1\nERROR=Credentials are stored\nfor somebody else\n")
    assert answer.errors == ("Credentials are stored", "for somebody else")


@given(st.binary(max_size=300))
def test_no_answer_does_more_than_be_refused(text: bytes) -> None:
    with contextlib.suppress(PilotageError):
        assert parse_answer(text).kind in Kind


@pytest.mark.parametrize(
    ("head", "length"),
    [(b"", None), (b"0", None), (b"0\x05", 7), (b"0\x81", None), (b"0\x81\x90", 147), (b"0\x82\x01\x00", 260)],
)
def test_the_length_of_a_certificate_is_known_from_its_head(head: bytes, length: int | None) -> None:
    assert der_length(head) == length


@pytest.mark.parametrize("head", [b"1\x05", b"V", b"0\x80", b"0\x83\x01\x00", b"0\xff"])
def test_what_is_no_certificate_is_seen_from_its_head(head: bytes) -> None:
    with pytest.raises(PilotageError) as caught:
        der_length(head)
    assert caught.value.reason is Reason.MYPROXY_MALFORMED


@pytest.mark.parametrize("challenge", ["", "pay Mallory", "00" * 15, "00" * 65, "0g" * 16, "00" * 16 + " "])
def test_a_client_signs_random_numbers_and_nothing_else_a_server_may_want_signed(challenge: str) -> None:
    key = make_key(KeyKind.RSA_2048)
    assert isinstance(key, rsa.RSAPrivateKey)
    answer = Answer(Kind.CHALLENGE, challenges=(("X509_certificate", challenge),))
    with pytest.raises(PilotageError) as caught:
        _prove(answer, LocalIdentity(chain=(), key=key, source="proxy"))
    assert caught.value.reason is Reason.MYPROXY_ANSWER_INVALID
    genuine = Answer(Kind.CHALLENGE, challenges=(("X509_certificate", "0a" * 16),))
    reply = _prove(genuine, LocalIdentity(chain=(), key=key, source="proxy"))
    length = int.from_bytes(reply[4:8], "big")
    key.public_key().verify(reply[8 : 8 + length], b"0a" * 16, padding.PKCS1v15(), hashes.SHA1())
