"""Strings and refusals between Python and the C library."""

from typing import TYPE_CHECKING

from pilotage.errors import refuse
from pilotage.reasons import Reason
from pilotage_helper._native import ffi, lib

if TYPE_CHECKING:
    from pilotage_helper._native import Pointer


def detail() -> "Pointer":
    """Return room for the words of one refusal."""
    return ffi.new("char[]", b"\0" * (lib.PIL_DETAIL_SIZE - 1))


def text(data: bytes) -> "Pointer":
    """Return a C string."""
    if b"\0" in data:
        raise refuse(Reason.HELPER_CONFIG_UNUSABLE, "a path holds a NUL")
    return ffi.new("char[]", data)


def string(field: object) -> str:
    """Read a C string that the library wrote."""
    return ffi.string(field).decode(errors="surrogateescape")


def check(number: int, words: "Pointer | str") -> None:
    """Raise the refusal that the number stands for, if it is one."""
    if number:
        raise refuse(Reason(number), words if isinstance(words, str) else string(words))
