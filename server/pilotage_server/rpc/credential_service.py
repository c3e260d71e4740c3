"""CredentialService on the wire."""

from pilotage.errors import refuse
from pilotage.reasons import Reason
from pilotage.secret import Secret
from pilotage.v1 import credential_pb2 as pb
from pilotage.v1 import credential_pb2_grpc
from pilotage.x509.keys import KeyKind
from pilotage_server.auth.current import principal
from pilotage_server.auth.policy import Policy, Role
from pilotage_server.credentials.issuing import ProxyIssuer, Wanted
from pilotage_server.credentials.keeper import CredentialKeeper
from pilotage_server.credentials.links import Links
from pilotage_server.principal import Principal
from pilotage_server.rpc.guard import Context
from pilotage_server.rpc.values import page_size, page_token, place, span, timestamp
from pilotage_server.store.credentials import Issuance, Place, StoredCredential
from pilotage_server.store.links import Link
from pilotage_server.store.times import microseconds


class CredentialServicer(credential_pb2_grpc.CredentialServiceServicer):
    """Delegation for owners, retrieval for pilots."""

    def __init__(self, keeper: CredentialKeeper, issuer: ProxyIssuer, links: Links, policy: Policy) -> None:
        self._keeper = keeper
        self._issuer = issuer
        self._links = links
        self._policy = policy

    async def BeginDelegation(self, request: pb.BeginDelegationRequest, context: Context) -> pb.BeginDelegationResponse:
        """Return a request for a fresh key."""
        try:
            kind = KeyKind(request.key_kind or KeyKind.RSA_2048.value)
        except ValueError as error:
            raise refuse(Reason.KEY_KIND_REFUSED) from error
        pending, certificate_request = await self._keeper.begin_delegation(principal(), kind)
        answer = pb.BeginDelegationResponse(
            delegation_id=pending.delegation_id,
            certificate_request=certificate_request,
            expire_time=timestamp(pending.expire_time),
        )
        answer.max_lifetime.FromTimedelta(self._keeper.max_lifetime)
        return answer

    async def CompleteDelegation(
        self, request: pb.CompleteDelegationRequest, context: Context
    ) -> pb.CompleteDelegationResponse:
        """Store the signed proxy."""
        stored = await self._keeper.complete_delegation(
            principal(), request.delegation_id, request.chain, Secret(request.retrieval_key), request.name
        )
        return pb.CompleteDelegationResponse(credential=_credential(stored))

    async def ListCredentials(self, request: pb.ListCredentialsRequest, context: Context) -> pb.ListCredentialsResponse:
        """Return a page of the caller's."""
        size = page_size(request.page_size)
        found = await self._keeper.owned(principal(), place(request.page_token), size + 1)
        page = found[:size]
        more = len(found) > size
        return pb.ListCredentialsResponse(
            credentials=[_credential(stored) for stored in page],
            next_page_token=page_token(_place_of(page[-1])) if more else "",
        )

    async def GetCredential(self, request: pb.GetCredentialRequest, context: Context) -> pb.GetCredentialResponse:
        """Return one of the caller's."""
        stored = await self._keeper.look(principal(), request.credential_id)
        return pb.GetCredentialResponse(credential=_credential(stored))

    async def DestroyCredential(
        self, request: pb.DestroyCredentialRequest, context: Context
    ) -> pb.DestroyCredentialResponse:
        """Erase one of the caller's."""
        caller = principal()
        stored = await self._keeper.destroy(caller, request.credential_id, as_admin=self._is_admin(caller))
        return pb.DestroyCredentialResponse(credential=_credential(stored))

    async def RetrieveCredential(
        self, request: pb.RetrieveCredentialRequest, context: Context
    ) -> pb.RetrieveCredentialResponse:
        """Return a proxy for the calling pilot's key."""
        issued = await self._issuer.issue(principal(), _wanted(request), renewal=False)
        return pb.RetrieveCredentialResponse(chain=issued.chain, expire_time=timestamp(issued.expire_time))

    async def RenewCredential(self, request: pb.RenewCredentialRequest, context: Context) -> pb.RenewCredentialResponse:
        """Return a newer proxy for the calling pilot's key, for a payload that runs."""
        issued = await self._issuer.issue(principal(), _wanted(request), renewal=True)
        return pb.RenewCredentialResponse(chain=issued.chain, expire_time=timestamp(issued.expire_time))

    async def LinkName(self, request: pb.LinkNameRequest, context: Context) -> pb.LinkNameResponse:
        """Note what the caller says of another DN."""
        return pb.LinkNameResponse(linked=await self._links.link(principal(), request.dn))

    async def UnlinkName(self, request: pb.UnlinkNameRequest, context: Context) -> pb.UnlinkNameResponse:
        """Cut a link."""
        await self._links.unlink(principal(), request.dn)
        return pb.UnlinkNameResponse()

    async def ListLinks(self, request: pb.ListLinksRequest, context: Context) -> pb.ListLinksResponse:
        """Return what was said of whom."""
        return pb.ListLinksResponse(links=[_link(link) for link in await self._links.of(principal())])

    async def ListIssuances(self, request: pb.ListIssuancesRequest, context: Context) -> pb.ListIssuancesResponse:
        """Return a page of who got proxies of a credential."""
        caller = principal()
        size = page_size(request.page_size)
        found = await self._keeper.issuances(
            caller,
            request.credential_id,
            place(request.page_token),
            size + 1,
            as_admin=self._is_admin(caller),
        )
        page = found[:size]
        last = Place(microseconds(page[-1].issue_time), page[-1].issuance_id) if len(found) > size else None
        return pb.ListIssuancesResponse(
            issuances=[_issuance(issuance) for issuance in page],
            next_page_token=page_token(last) if last else "",
        )

    def _is_admin(self, caller: Principal) -> bool:
        """Tell whether a caller may see and destroy what is others's; nobody may with a limited proxy, as jobs have."""
        return Role.ADMIN in self._policy.roles(caller) and not caller.limited


def _wanted(request: pb.RetrieveCredentialRequest | pb.RenewCredentialRequest) -> Wanted:
    return Wanted(
        token=Secret(request.credential_token),
        retrieval_key=Secret(request.retrieval_key),
        request=request.certificate_request,
        lifetime=span(request.lifetime),
    )


def _place_of(stored: StoredCredential) -> Place:
    return Place(microseconds(stored.create_time), stored.credential_id)


def _credential(stored: StoredCredential) -> pb.Credential:
    return pb.Credential(
        credential_id=stored.credential_id,
        owner_dn=stored.owner_dn,
        name=stored.name,
        vo=stored.vo,
        fqans=stored.fqans,
        key_kind=pb.KeyKind.ValueType(stored.key_kind),
        create_time=timestamp(stored.create_time),
        expire_time=timestamp(stored.expire_time),
        destroy_time=timestamp(stored.destroy_time) if stored.destroy_time else None,
        limited=stored.limited,
        revoke_time=timestamp(stored.revoke_time) if stored.revoke_time else None,
    )


def _link(link: Link) -> pb.NameLink:
    return pb.NameLink(
        dn=link.dn,
        other_dn=link.other_dn,
        ask_time=timestamp(link.ask_time),
        link_time=timestamp(link.link_time) if link.link_time else None,
    )


def _issuance(issuance: Issuance) -> pb.Issuance:
    return pb.Issuance(
        issuance_id=issuance.issuance_id,
        credential_id=issuance.credential_id,
        job_id=issuance.job_id,
        lease_id=issuance.lease_id,
        attempt=issuance.attempt,
        pilot_dn=issuance.pilot_dn,
        serial=issuance.serial,
        issue_time=timestamp(issuance.issue_time),
        expire_time=timestamp(issuance.expire_time),
        peer=issuance.peer,
    )
