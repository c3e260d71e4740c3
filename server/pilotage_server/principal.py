"""A verified caller."""

import datetime
import enum

import msgspec


class Proof(enum.IntEnum):
    """How a principal was proven; numbers of `pilotage.v1.ProofKind`."""

    SESSION = 1
    MUTUAL_TLS = 2


class Principal(msgspec.Struct, frozen=True):
    """Who is calling, as the verifier or a session token says.

    `dn` is the end-entity certificate's subject in slash form, `fqans` are normalised and in the
    proxy's order, `thumbprint` is the SHA-256 of the leaf's SubjectPublicKeyInfo, `expire_time`
    is when this proof ends (aware, UTC). `peer` is the network address this call comes from, as gRPC writes it.
    """

    dn: str
    vo: str
    fqans: tuple[str, ...]
    limited: bool
    thumbprint: bytes
    proof: Proof
    expire_time: datetime.datetime
    peer: str = ""
