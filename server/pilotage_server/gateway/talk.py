"""One request of MyProxy's protocol, from its first OK to its last."""

from collections.abc import Iterable

from pilotage.errors import refuse
from pilotage.myproxy.messages import (
    METHODS,
    Command,
    Request,
    format_chain,
    format_challenge,
    format_ok,
    malformed,
)
from pilotage.reasons import Reason
from pilotage_server.gateway.policy import Client
from pilotage_server.gateway.proving import Proof
from pilotage_server.gateway.storing import Storing
from pilotage_server.gateway.taking import Found, Taking
from pilotage_server.gateway.trust_roots import TrustRoots
from pilotage_server.gateway.wire import Wire
from pilotage_server.store.times import EPOCH

LARGEST_SIGNATURE = 1024


class Talk:
    """Answer requests."""

    def __init__(self, storing: Storing, taking: Taking, roots: TrustRoots) -> None:
        self._storing = storing
        self._taking = taking
        self._roots = roots

    async def answer(self, wire: Wire, client: Client, request: Request) -> None:
        """Do what a request asks for; raise why not, before the last OK."""
        match request.command:
            case Command.GET:
                await self._get(wire, client, request)
            case Command.PUT:
                await self._put(wire, client, request)
            case Command.INFO:
                await wire.send(format_ok(_info(await self._storing.info(client, request))))
            case Command.DESTROY:
                await self._storing.destroy(client, request)
                await wire.send(format_ok())
            case Command.CHANGE:
                await self._storing.change_passphrase(client, request)
                await wire.send(format_ok())
            case Command.STORE:
                await self._storing.check_store(client, request)
                await wire.send(format_ok())
                await self._storing.store(client, request, await wire.read_text())
                await wire.send(format_ok())
            case Command.RETRIEVE:
                opened = await self._taking.open(client, request, lambda challenge: _ask(wire, challenge))
                content = await self._taking.export(client, opened)
                await wire.send(await self._first_ok(request))
                await wire.send(content + b"\0")
                await wire.send(format_ok())
            case Command.TRUST_ROOTS:
                if not self._roots.given:
                    raise refuse(Reason.PERMISSION_DENIED, "This service does not give out trust roots.")
                await wire.send(await self._roots.answer())

    async def _get(self, wire: Wire, client: Client, request: Request) -> None:
        opened = await self._taking.open(client, request, lambda challenge: _ask(wire, challenge))
        await wire.send(await self._first_ok(request))
        chain = await self._taking.issue(client, request, opened, await wire.read_der())
        await wire.send(format_chain(chain))
        await wire.send(format_ok())

    async def _put(self, wire: Wire, client: Client, request: Request) -> None:
        key, wanted = await self._storing.begin_put(client, request)
        await wire.send(format_ok())
        await wire.send(wanted)
        await self._storing.complete_put(client, request, key, await wire.read_chain())
        await wire.send(format_ok())

    async def _first_ok(self, request: Request) -> bytes:
        return await self._roots.answer() if request.trust_roots and self._roots.given else format_ok()


async def _ask(wire: Wire, challenge: str) -> Proof:
    await wire.send(format_challenge(METHODS, challenge))
    head = await wire.read(8)
    length = int.from_bytes(head[4:], "big")
    if length > LARGEST_SIGNATURE:
        raise malformed("The signature is longer than any should be.")
    return Proof(head[0], await wire.read(length), await wire.read_chain())


def _info(found: Iterable[Found]) -> Iterable[tuple[str, str]]:
    """Yield the fields of credentials; those of the first carry no name in theirs."""
    names: list[str] = []
    for number, (entry, stored) in enumerate(found):
        prefix = f"CRED_{entry.name}_" if number else "CRED_"
        if number:
            names.append(entry.name)
        elif entry.name:
            yield "CRED_NAME", entry.name
        seconds = ((stored.create_time - EPOCH).total_seconds(), (stored.expire_time - EPOCH).total_seconds())
        optional = (
            ("DESC", entry.description),
            ("RETRIEVER", entry.retrievers),
            ("KEYRETRIEVERS", entry.key_retrievers),
            ("RETRIEVER_TRUSTED", entry.trusted_retrievers),
            ("RENEWER", entry.renewers),
        )
        yield f"{prefix}START_TIME", str(int(seconds[0]))
        yield f"{prefix}END_TIME", str(int(seconds[1]))
        yield f"{prefix}OWNER", stored.owner_dn
        for name, value in optional:
            if value is not None and value != "":
                yield prefix + name, value
    if names:
        yield "ADDL_CREDS", ",".join(names)
