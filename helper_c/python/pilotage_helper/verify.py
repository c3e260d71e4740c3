"""Ask the one verifier, in C, whether a proxy chain is genuine and whose it is."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from pilotage.errors import refuse
from pilotage.reasons import Reason
from pilotage_helper._native import ffi, lib

if TYPE_CHECKING:
    from pilotage_helper._native import CIdentity, COptions, Pointer


class VerifyOptions(msgspec.Struct, frozen=True):
    """What the verifier trusts and what it insists on.

    `voms_dir` None means that no VO is known and all VOMS attributes are ignored.
    `max_voms_seconds` 0 means eight days, `max_proxy_seconds` 0 any life.
    `accept_old` takes proxies of GT2, older than RFC 3820.
    Without `require_signing_policy` neither signing_policy nor namespaces files limit what an authority may sign.
    `host` is this host's name, for attributes meant for some hosts only.
    """

    ca_dir: Path
    voms_dir: Path | None = None
    skew_seconds: int = 300
    require_crl: bool = True
    require_key: bool = False
    require_proxy: bool = False
    refuse_limited: bool = False
    require_signing_policy: bool = True
    max_voms_seconds: int = 0
    max_proxy_seconds: int = 0
    accept_old: bool = False
    host: str = ""

    @property
    def policy(self) -> int:
        """Return the PIL_P_* bits."""
        bits = (
            (self.require_crl, lib.PIL_P_REQUIRE_CRL),
            (self.require_key, lib.PIL_P_REQUIRE_KEY),
            (self.require_proxy, lib.PIL_P_REQUIRE_PROXY),
            (self.refuse_limited, lib.PIL_P_REFUSE_LIMITED),
            (self.accept_old, lib.PIL_P_ACCEPT_OLD),
            (not self.require_signing_policy, lib.PIL_P_NO_SIGNING_POLICY),
        )
        return sum(bit for wanted, bit in bits if wanted)


class Identity(msgspec.Struct, frozen=True):
    """Who a verified chain speaks for.

    `dn` is the end entity's subject; `fqans` are normalised and in the server's order, so the first is the primary
    one. `not_after` is the end of the chain's shortest-lived certificate, `voms_not_after` that of the attributes.
    `note` says what was left out (attributes of a VO that is not configured here), for the log.
    """

    dn: str
    issuer: str
    vo: str
    fqans: tuple[str, ...]
    limited: bool
    is_proxy: bool
    depth: int
    not_before: datetime
    not_after: datetime
    voms_not_after: datetime | None
    leaf_thumbprint: bytes
    eec_digest: bytes
    has_key: bool
    note: str = ""


def verify_pem(pem: bytes, options: VerifyOptions, at: datetime | None = None) -> Identity:
    """Verify a PEM file's bytes, leaf first; raise VerifyError with the reason."""
    return _verify(pem, options, at, is_pem=True)


def verify_chain(chain: Sequence[bytes], options: VerifyOptions, at: datetime | None = None) -> Identity:
    """Verify DER certificates, leaf first; raise VerifyError with the reason."""
    return _verify(b"".join(chain), options, at, is_pem=False)


def namespaces_fault(text: bytes) -> int:
    """Return the number of the first line of a namespaces file that is no statement, or 0."""
    return lib.pil_namespaces_fault(text, len(text))


def c_options(options: VerifyOptions) -> tuple["COptions", list["Pointer"]]:
    """Return the options as the library takes them, and the strings that must live as long."""
    strings = [ffi.new("char[]", text) for text in _paths(options)]
    asked = ffi.new("struct pil_verify_options *")
    asked.ca_dir, asked.voms_dir, asked.host = (s if len(s) > 1 else ffi.NULL for s in strings)
    asked.skew = options.skew_seconds
    asked.max_voms_seconds = options.max_voms_seconds
    asked.max_proxy_seconds = options.max_proxy_seconds
    asked.policy = options.policy
    return asked, strings


def _verify(data: bytes, options: VerifyOptions, at: datetime | None, *, is_pem: bool) -> Identity:
    asked, strings = c_options(options)
    asked.at = seconds(at)
    who = ffi.new("struct pil_identity *")
    call = lib.pil_verify_pem if is_pem else lib.pil_verify_der
    number = call(asked, data, len(data), who)
    del strings
    return answer(number, who)


def answer(number: int, who: "CIdentity") -> Identity:
    """Return who it is; raise VerifyError where the number is a reason."""
    if number:
        raise refuse(Reason(number), _text(who.detail))
    return _identity(who)


def _paths(options: VerifyOptions) -> tuple[bytes, bytes, bytes]:
    voms = b"" if options.voms_dir is None else bytes(options.voms_dir)
    texts = (bytes(options.ca_dir), voms, options.host.encode())
    if any(b"\0" in text for text in texts):
        raise refuse(Reason.CA_DIRECTORY_UNUSABLE, "a directory's or the host's name holds a NUL")
    return texts


def seconds(at: datetime | None) -> int:
    """Return Unix seconds; 0 tells the library to look at the clock."""
    if at is None:
        return 0
    if at.tzinfo is None:
        raise ValueError("the time to verify at needs a time zone")
    seconds = int(at.timestamp())
    if seconds <= 0:
        raise ValueError("the time to verify at is before 1970")
    return seconds


def _identity(who: "CIdentity") -> Identity:
    return Identity(
        dn=_text(who.dn),
        issuer=_text(who.issuer),
        vo=_text(who.vo),
        fqans=tuple(_text(who.fqan[i]) for i in range(who.fqan_count)),
        limited=bool(who.flags & lib.PIL_F_LIMITED),
        is_proxy=bool(who.flags & lib.PIL_F_PROXY),
        depth=who.depth,
        not_before=_time(who.not_before),
        not_after=_time(who.not_after),
        voms_not_after=_time(who.voms_not_after) if who.voms_not_after else None,
        leaf_thumbprint=bytes(ffi.buffer(who.leaf_key)),
        eec_digest=bytes(ffi.buffer(who.eec)),
        has_key=bool(who.flags & lib.PIL_F_KEY),
        note=_text(who.detail),
    )


def _text(field: object) -> str:
    return ffi.string(field).decode("ascii")


def _time(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
