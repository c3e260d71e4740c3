"""Ask VOMS servers for attributes, and put them into a proxy.

    client = VomsClient(ca_dir, servers_of("demo", find_vomses(os.environ)))
    identity = client.extend(identity, make_request("demo", ["/demo/Role=analysis"]))

The servers of a VO are asked in random order until one grants the request; each is asked by
REST first and then, if that is not understood, in the legacy protocol. The call blocks; from an
event loop, use a thread.
"""

import datetime
import random
import ssl
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from pilotage.errors import PilotageError, refuse
from pilotage.reasons import Reason
from pilotage.voms.answers import LARGEST_ANSWER_BYTES, VomsAnswer, parse_answer, parse_http
from pilotage.voms.attribute import VomsAttributes, add_attributes, check_holder, read_attributes
from pilotage.voms.fqans import difference
from pilotage.voms.requests import NO_DELEGATION, VomsRequest, legacy_request, rest_request
from pilotage.voms.tls import Deadline, broken_off, client_context, connect
from pilotage.voms.vomses import VomsServer
from pilotage.x509.files import LocalIdentity
from pilotage.x509.proxies import end_entity

CLOCK_SKEW = datetime.timedelta(minutes=5)
LEGACY_END = b"</vomsans>"
HEAD_BYTES = 16 * 1024

# What a server decided about this person, as opposed to what went wrong on the way.
_DECISIONS = {
    Reason.VOMS_NOT_MEMBER,
    Reason.VOMS_SUSPENDED,
    Reason.VOMS_SERVER_REFUSED,
    Reason.VOMS_SUBSET,
}


class VomsGrant(msgspec.Struct, frozen=True):
    """Attributes that a server gave, checked to be the caller's and to be what was asked for."""

    attributes: VomsAttributes
    server: VomsServer
    warnings: tuple[str, ...]


class VomsClient:
    """Ask the servers of one VO; nothing is kept between calls."""

    def __init__(
        self,
        ca_dir: Path,
        servers: Sequence[VomsServer],
        *,
        deadline_seconds: float = 60,
        server_seconds: float = 20,
        shuffle: Callable[[list[VomsServer]], None] = random.SystemRandom().shuffle,
        now: Callable[[], datetime.datetime] = lambda: datetime.datetime.now(datetime.UTC),
    ) -> None:
        if not servers:
            raise refuse(Reason.VOMSES_NOT_FOUND)
        self._ca_dir = ca_dir
        self._servers = tuple(servers)
        self._deadline_seconds = deadline_seconds
        self._server_seconds = server_seconds
        self._shuffle = shuffle
        self._now = now

    def ask(self, identity: LocalIdentity, request: VomsRequest) -> VomsGrant:
        """Return attributes for the person behind an identity.

        Raises the most telling of what the servers said: a decision about the person before a fault.
        """
        deadline = Deadline.after(self._deadline_seconds)
        context = client_context(identity, self._ca_dir)
        order = list(self._servers)
        self._shuffle(order)
        errors: list[PilotageError] = []
        for server in order:
            try:
                answer = self._ask_one(server, context, request, deadline)
                return VomsGrant(
                    attributes=self._check(answer, identity, request), server=server, warnings=answer.warnings
                )
            except OSError as error:
                errors.append(broken_off(server, error))
            except PilotageError as error:
                errors.append(error)
        raise next((error for error in errors if error.reason in _DECISIONS), errors[-1])

    def extend(
        self,
        identity: LocalIdentity,
        request: VomsRequest,
        *,
        lifetime: datetime.timedelta | None = None,
        limited: bool = False,
    ) -> LocalIdentity:
        """Return a new proxy below an identity that carries the attributes asked for.

        The proxy lives as long as the attributes were asked for, unless `lifetime` says otherwise.
        """
        grant = self.ask(identity, request)
        return add_attributes(
            identity,
            [grant.attributes.der],
            lifetime=request.lifetime if lifetime is None else lifetime,
            now=self._now(),
            limited=limited,
        )

    def _ask_one(
        self, server: VomsServer, context: ssl.SSLContext, request: VomsRequest, deadline: Deadline
    ) -> VomsAnswer:
        """Ask by REST; a server that does not speak it gets the legacy request on a new connection."""
        bounded = deadline.earlier(self._server_seconds)
        try:
            with connect(server, context, bounded) as wire:
                wire.send(rest_request(request, server.host, server.port))
                return parse_http(wire.receive(HEAD_BYTES + LARGEST_ANSWER_BYTES))
        except PilotageError as error:
            if error.reason is not Reason.VOMS_ANSWER_MALFORMED:
                raise
        except OSError as error:
            if broken_off(server, error).reason is Reason.VOMS_SERVER_REFUSED:
                raise
            # A server that waits for the end of a legacy request never answers a REST one.
            bounded = deadline.earlier(self._server_seconds)
        with connect(server, context, bounded) as wire:
            wire.send(NO_DELEGATION)
            wire.send(legacy_request(request))
            return parse_answer(wire.receive(LARGEST_ANSWER_BYTES, LEGACY_END))

    def _check(self, answer: VomsAnswer, identity: LocalIdentity, request: VomsRequest) -> VomsAttributes:
        """Return the attributes of an answer if they are for us, now, and what was asked for."""
        try:
            attributes = read_attributes(answer.certificate)
        except PilotageError as error:
            raise refuse(
                Reason.VOMS_ANSWER_MALFORMED,
                f"The VOMS server's attribute certificate cannot be used ({error.reason.name}: {error.message}).",
            ) from error
        check_holder(attributes, end_entity(identity.chain))
        if attributes.vo != request.vo:
            raise refuse(Reason.VOMS_ANSWER_MALFORMED, f"The VOMS server answered for the VO {attributes.vo}.")
        now = self._now()
        if attributes.not_after <= now or attributes.not_after <= attributes.not_before:
            raise refuse(Reason.VOMS_EXPIRED, "The VOMS server gave attributes that have ended; check the clocks.")
        if attributes.not_before > now + CLOCK_SKEW:
            raise refuse(Reason.VOMS_NOT_YET_VALID, "The VOMS server gave attributes of the future; check the clocks.")
        lacking = difference(request.fqans, attributes.fqans)
        if lacking and not request.allow_subset:
            raise refuse(Reason.VOMS_SUBSET, f"The VOMS server did not give what was asked for: {lacking}.")
        return attributes
