"""Values that must never reach a log, an exception text, an argv or an environment."""

import hmac


class Secret:
    """Hold bytes that print as `***`.

    `reveal()` is the only way to the bytes, so that every use can be found by searching for it.
    Comparison takes constant time. There is no text form, no pickling and no hash.
    """

    __slots__ = ("_value",)

    def __init__(self, value: bytes | str) -> None:
        self._value = value.encode() if isinstance(value, str) else bytes(value)

    def reveal(self) -> bytes:
        """Return the bytes themselves."""
        return self._value

    def reveal_text(self) -> str:
        """Return the bytes as UTF-8 text."""
        return self._value.decode()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._value, other._value)

    __hash__ = None  # type: ignore[assignment]

    def __bool__(self) -> bool:
        return bool(self._value)

    def __repr__(self) -> str:
        return "***"

    def __str__(self) -> str:
        raise TypeError("a Secret has no text form; use reveal() where it must leave")

    def __format__(self, spec: str) -> str:
        raise TypeError("a Secret has no text form; use reveal() where it must leave")

    def __reduce__(self) -> str:
        raise TypeError("a Secret cannot be pickled")
