"""Answers of VOMS servers: every dialect of errors, and nothing hostile gets through."""

import base64
import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotage.errors import PilotageError
from pilotage.reasons import Reason
from pilotage.voms.answers import LARGEST_ANSWER_BYTES, parse_answer, parse_http

AC = b"not yet looked at" * 10
TEXT = base64.encodebytes(AC).decode()
DUMMY = "<ac>QQ==\n</ac>"


def reason_of(body: str) -> Reason:
    with pytest.raises(PilotageError) as caught:
        parse_answer(body.encode())
    return caught.value.reason


def legacy_error(number: int, message: str = "no") -> str:
    item = f"<item><number>{number}</number><message>{message}</message></item>"
    head = '<?xml version="1.0" encoding = "US-ASCII"?><vomsans><version>3</version>'
    return f"{head}<error>{item}</error>{DUMMY}</vomsans>"


def rest_error(code: str, message: str = "no") -> str:
    head = '<?xml version="1.0" encoding="UTF-8"?>'
    return f"{head}<voms><error><code>{code}</code><message>{message}</message></error></voms>"


def test_an_attribute_certificate_is_taken_from_both_protocols() -> None:
    rest = f'<?xml version="1.0" encoding="UTF-8"?><voms><ac>{TEXT}</ac><warning>shortened</warning></voms>'
    legacy = f'<?xml version="1.0" encoding = "US-ASCII"?><vomsans><version>3</version><ac>{TEXT}</ac></vomsans>'
    assert parse_answer(rest.encode()).certificate == AC
    assert parse_answer(rest.encode()).warnings == ("shortened",)
    assert parse_answer(legacy.encode()).certificate == AC


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("NoSuchUser", Reason.VOMS_NOT_MEMBER),
        ("SuspendedUser", Reason.VOMS_SUSPENDED),
        ("BadRequest", Reason.VOMS_SERVER_REFUSED),
        ("InternalError", Reason.VOMS_SERVER_FAILED),
        ("NewInvention", Reason.VOMS_SERVER_REFUSED),
        ("", Reason.VOMS_SERVER_REFUSED),
        # INDIGO IAM: numbers, and HTTP 200
        ("1001", Reason.VOMS_NOT_MEMBER),
        ("1004", Reason.VOMS_SUSPENDED),
        ("1006", Reason.VOMS_SERVER_FAILED),
        ("1007", Reason.VOMS_SERVER_REFUSED),
        ("99999999999999999999", Reason.VOMS_SERVER_REFUSED),
    ],
)
def test_rest_errors_are_told_by_name_or_number(code: str, reason: Reason) -> None:
    assert reason_of(rest_error(code)) is reason


@pytest.mark.parametrize(
    ("number", "message", "reason"),
    [
        (1001, "demo: User unknown to this VO.", Reason.VOMS_NOT_MEMBER),
        (1001, "demo: Unable to satisfy B/demo:nothing request!", Reason.VOMS_SERVER_REFUSED),
        (1002, "no", Reason.VOMS_SERVER_REFUSED),
        (1003, "no", Reason.VOMS_SERVER_FAILED),
        (1004, "no", Reason.VOMS_SUSPENDED),
        (1005, "no", Reason.VOMS_SERVER_REFUSED),
        (1006, "no", Reason.VOMS_SERVER_FAILED),
    ],
)
def test_legacy_errors_are_told_by_number_in_spite_of_the_dummy(number: int, message: str, reason: Reason) -> None:
    assert reason_of(legacy_error(number, message)) is reason


def test_a_legacy_number_below_a_thousand_only_warns() -> None:
    body = legacy_error(2, "shortened").replace(DUMMY, f"<ac>{TEXT}</ac>")
    answer = parse_answer(body.encode())
    assert answer.certificate == AC
    assert answer.warnings == ("shortened",)


def test_an_error_behind_a_warning_still_fails() -> None:
    body = legacy_error(2).replace("</item>", "</item><item><number>1004</number><message>no</message></item>", 1)
    assert reason_of(body) is Reason.VOMS_SUSPENDED


def test_a_message_that_echoes_the_request_unescaped_is_shown() -> None:
    echo = 'Unable to interpret command: 0<?xml version="1.0"?><voms><command>X</command></voms>'
    with pytest.raises(PilotageError, match="<command>X</command>") as caught:
        parse_answer(legacy_error(1005, echo).encode())
    assert caught.value.reason is Reason.VOMS_SERVER_REFUSED


def test_a_message_is_made_fit_for_a_terminal() -> None:
    with pytest.raises(PilotageError) as caught:
        parse_answer(legacy_error(1001, "red \x1b[31m\nalert\u202e" + "x" * 10_000).encode())
    assert caught.value.message.isprintable()
    assert len(caught.value.message) < 400


BOMB = '<!DOCTYPE voms [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]>'


@pytest.mark.parametrize(
    "body",
    [
        "",
        "<voms>",
        "<voms></voms>",
        "<vomsans><ac>" + TEXT,
        f"<voms><ac>{TEXT}</ac><ac>{TEXT}</ac></voms>",
        f"<voms><ac>{TEXT}</ac></voms><voms></voms>",
        f"<voms><ac>{TEXT}</ac></vomsans>",
        f"<voms><ac>{TEXT}!</ac></voms>",
        "<voms><ac>\u00e9</ac></voms>",
        f"<html><ac>{TEXT}</ac></html>",
        f"<voms><ac kind='x'>{TEXT}</ac></voms>",
        f"<voms><!-- x --><ac>{TEXT}</ac></voms>",
        f"<voms><ac>{TEXT}</ac><other>x</other></voms>",
        f"{BOMB}<voms><ac>&b;</ac></voms>",
        f'<?xml version="1.0"?>{BOMB}<voms><ac>&b;</ac></voms>',
        '<!DOCTYPE voms SYSTEM "file:///etc/passwd"><voms></voms>',
        "<voms><ac>&#65;</ac></voms>",
        "<voms>" + "<error>" * 1000,
        "<voms>" + "<warning/>" * 1000 + f"<ac>{TEXT}</ac></voms>",
        "x" * (LARGEST_ANSWER_BYTES + 1),
    ],
)
def test_anything_else_is_malformed(body: str) -> None:
    assert reason_of(body) is Reason.VOMS_ANSWER_MALFORMED


@given(
    st.lists(
        st.sampled_from(
            ["<voms>", "</voms>", "<ac>", "</ac>", "<error>", "</error>", "<item>", "QQ==", "&a;", "\n", "<"]
        )
    )
)
def test_any_jumble_gives_an_answer_or_a_reason(parts: list[str]) -> None:
    # Any other exception than ours fails the test.
    with contextlib.suppress(PilotageError):
        parse_answer("".join(parts).encode())


@given(st.binary(max_size=300))
def test_any_bytes_give_a_reason(content: bytes) -> None:
    with pytest.raises(PilotageError):
        parse_http(b"HTTP/1.1 200 OK\r\n\r\n" + content)


def test_the_http_status_means_nothing() -> None:
    good = f"<voms><ac>{TEXT}</ac></voms>"
    assert parse_http(f"HTTP/1.1 500 Oops\r\nServer: x\r\n\r\n{good}".encode()).certificate == AC
    with pytest.raises(PilotageError) as caught:
        parse_http(f"HTTP/1.1 200 OK\r\n\r\n{rest_error('1001')}".encode())
    assert caught.value.reason is Reason.VOMS_NOT_MEMBER


@pytest.mark.parametrize("head", ["", "HTTP/2 200", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked"])
def test_what_is_no_plain_http_is_malformed(head: str) -> None:
    with pytest.raises(PilotageError) as caught:
        parse_http(f"{head}\r\n\r\n<voms><ac>{TEXT}</ac></voms>".encode())
    assert caught.value.reason is Reason.VOMS_ANSWER_MALFORMED
