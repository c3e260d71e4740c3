"""Who may store, take and renew what, with MyProxy's meanings: a policy of the server, and one of each credential.

A pattern is a subject in which `*` stands for any text and `?` for one character; `FQAN:` before it lets it match a
VOMS attribute instead. `|` parts alternatives. MyProxy's patterns are regular expressions besides; those are not
taken, for a stranger's expression may be made to run for hours.
"""

import datetime
from collections.abc import Iterable, Sequence

import msgspec

from pilotage.errors import refuse
from pilotage.reasons import Reason
from pilotage_server.principal import Principal, Proof

ANONYMOUS = "<anonymous>"
LONGEST_PATTERN = 1024
NEVER = datetime.datetime.fromtimestamp(0, datetime.UTC)


class GatewayRules(msgspec.Struct, frozen=True, kw_only=True):
    """The server's part of the policy. Empty is nobody, but for `default_retrievers`."""

    accepted_credentials: tuple[str, ...] = ()
    """Who may store, besides those who have the role of owners."""
    authorized_retrievers: tuple[str, ...] = ()
    default_retrievers: tuple[str, ...] = ("*",)
    trusted_retrievers: tuple[str, ...] = ()
    default_trusted_retrievers: tuple[str, ...] = ()
    authorized_renewers: tuple[str, ...] = ()
    default_renewers: tuple[str, ...] = ()
    authorized_key_retrievers: tuple[str, ...] = ()
    default_key_retrievers: tuple[str, ...] = ()
    allow_self_authorization: bool = False
    """Whether a proxy may refresh itself, where no pass phrase is asked for."""
    allow_unattended: bool = False
    """Whether credentials without a pass phrase are kept, sealed with the service's key alone."""
    allow_key_storage: bool = False
    """Whether private keys are taken in (STORE) and given out (RETRIEVE)."""
    serve_trust_roots: bool = True
    """Whether the authorities' certificates are given to whoever asks."""
    claim_usernames: bool = True
    """Whether a user name that nobody has yet is given to the first who stores something under it."""
    usernames: dict[str, str] = {}
    """User names that are kept for one subject each."""
    max_usernames: int = 20
    """Of one owner."""
    max_credentials: int = 200
    """Of one owner, through the gateway."""
    min_passphrase_length: int = 6
    max_proxy_seconds: int = 12 * 3600


class Client(msgspec.Struct, frozen=True):
    """Who is at the other end; `principal` is None for one who showed no certificate."""

    principal: Principal | None
    host: str
    """The address it speaks from."""

    @property
    def name(self) -> str:
        """Return the subject, or the word for a client without one."""
        return self.principal.dn if self.principal else ANONYMOUS

    @property
    def actor(self) -> Principal:
        """Return who acts, for the audit: for a client without a certificate, one that nobody can be."""
        if self.principal is not None:
            return self.principal
        return Principal(
            dn=ANONYMOUS,
            vo="",
            fqans=(),
            limited=False,
            thumbprint=b"",
            proof=Proof.MUTUAL_TLS,
            expire_time=NEVER,
            peer=self.host,
        )

    @property
    def limited(self) -> bool:
        """Return whether the client came with a limited proxy."""
        return self.principal is not None and self.principal.limited

    def must(self) -> Principal:
        """Return the principal, or raise UNAUTHENTICATED."""
        if self.principal is None:
            raise refuse(Reason.UNAUTHENTICATED, "This command wants a client certificate or proxy.")
        return self.principal


class EntryRules(msgspec.Struct, frozen=True, kw_only=True):
    """A credential's own part of the policy, as its owner gave it; None leaves it to the server's default."""

    retrievers: str | None = None
    trusted_retrievers: str | None = None
    renewers: str | None = None
    key_retrievers: str | None = None

    def check(self) -> None:
        """Raise INVALID_ARGUMENT for a pattern that is too long."""
        for pattern in (self.retrievers, self.trusted_retrievers, self.renewers, self.key_retrievers):
            if pattern is not None and len(pattern) > LONGEST_PATTERN:
                raise refuse(Reason.INVALID_ARGUMENT, f"A policy has at most {LONGEST_PATTERN} characters.")


def admits(client: Client, server: Sequence[str], own: str | None, default: Sequence[str]) -> bool:
    """Tell whether both the server's policy and the credential's, or the default in its place, admit a client."""
    return matches_any(client, server) and matches_any(client, default if own is None else [own])


def matches_any(client: Client, patterns: Iterable[str]) -> bool:
    """Tell whether a client matches one of the patterns."""
    return any(matches(client, one) for pattern in patterns for one in pattern.split("|"))


def matches(client: Client, pattern: str) -> bool:
    """Tell whether a client matches one pattern without alternatives."""
    kind, colon, rest = pattern.partition(":")
    if colon and kind.upper() == "FQAN":
        return any(glob(rest, fqan) for fqan in (client.principal.fqans if client.principal else ()))
    if colon and kind.upper() == "SUBJECT":
        pattern = rest
    return glob(pattern, client.name)


def glob(pattern: str, text: str) -> bool:
    """Match a whole text, in time bounded by the product of both lengths."""
    at = in_text = 0
    star = back = -1
    while in_text < len(text):
        if at < len(pattern) and pattern[at] == "*":
            star, back = at, in_text
            at += 1
        elif at < len(pattern) and pattern[at] in ("?", text[in_text]):
            at += 1
            in_text += 1
        elif star >= 0:
            back += 1
            at, in_text = star + 1, back
        else:
            return False
    return all(character == "*" for character in pattern[at:])
