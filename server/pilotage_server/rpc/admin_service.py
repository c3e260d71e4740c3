"""AdminService on the wire. What is not built yet says so, after it has told callers without the role that."""

from pilotage.errors import refuse
from pilotage.reasons import Reason
from pilotage.v1 import admin_pb2 as pb
from pilotage.v1 import admin_pb2_grpc
from pilotage_server.auth.current import principal
from pilotage_server.credentials.bans import Bans
from pilotage_server.credentials.ledger import Ledger
from pilotage_server.rpc.guard import Context
from pilotage_server.rpc.values import page_size, page_token, place, timestamp
from pilotage_server.store.audit import AuditRow, Filter
from pilotage_server.store.bans import Ban
from pilotage_server.store.credentials import Place


class AdminServicer(admin_pb2_grpc.AdminServiceServicer):
    """What the people who run the service do."""

    def __init__(self, ledger: Ledger, bans: Bans) -> None:
        self._ledger = ledger
        self._bans = bans

    async def ListSites(self, request: pb.ListSitesRequest, context: Context) -> pb.ListSitesResponse:
        """Refuse: not built yet."""
        raise refuse(Reason.NOT_IMPLEMENTED)

    async def PutSite(self, request: pb.PutSiteRequest, context: Context) -> pb.PutSiteResponse:
        """Refuse: not built yet."""
        raise refuse(Reason.NOT_IMPLEMENTED)

    async def Ban(self, request: pb.BanRequest, context: Context) -> pb.BanResponse:
        """Shut somebody out."""
        await self._bans.ban(principal(), request.subject, request.why)
        return pb.BanResponse()

    async def Unban(self, request: pb.UnbanRequest, context: Context) -> pb.UnbanResponse:
        """Let somebody in again."""
        await self._bans.lift(principal(), request.subject)
        return pb.UnbanResponse()

    async def ListBans(self, request: pb.ListBansRequest, context: Context) -> pb.ListBansResponse:
        """Return a page of who is banned."""
        size = page_size(request.page_size)
        key, _, subject = place(request.page_token).row_id.partition(" ")
        found = await self._bans.page(subject, key, size + 1)
        page = found[:size]
        more = len(found) > size
        return pb.ListBansResponse(
            bans=[_ban(ban) for ban in page],
            next_page_token=page_token(Place(0, f"{page[-1].key} {page[-1].subject}")) if more else "",
        )

    async def DrainPilot(self, request: pb.DrainPilotRequest, context: Context) -> pb.DrainPilotResponse:
        """Refuse: not built yet."""
        raise refuse(Reason.NOT_IMPLEMENTED)

    async def SetShare(self, request: pb.SetShareRequest, context: Context) -> pb.SetShareResponse:
        """Refuse: not built yet."""
        raise refuse(Reason.NOT_IMPLEMENTED)

    async def ListPilots(self, request: pb.ListPilotsRequest, context: Context) -> pb.ListPilotsResponse:
        """Refuse: not built yet."""
        raise refuse(Reason.NOT_IMPLEMENTED)

    async def QueryAudit(self, request: pb.QueryAuditRequest, context: Context) -> pb.QueryAuditResponse:
        """Return a page of the audit, newest first."""
        size = page_size(request.page_size)
        wanted = Filter(
            actor_dn=request.actor_dn, credential_id=request.credential_id, job_id=request.job_id, act=request.act
        )
        found = await self._ledger.page(wanted, place(request.page_token).microseconds, size + 1)
        page = found[:size]
        more = len(found) > size
        return pb.QueryAuditResponse(
            entries=[_entry(row) for row in page],
            next_page_token=page_token(Place(page[-1].head.seq)) if more else "",
        )


def _ban(ban: Ban) -> pb.BanInfo:
    return pb.BanInfo(
        subject=ban.subject,
        thumbprint=bytes.fromhex(ban.key),
        why=ban.why,
        by_dn=ban.by_dn,
        ban_time=timestamp(ban.time),
    )


def _entry(row: AuditRow) -> pb.AuditEntry:
    entry = row.entry
    return pb.AuditEntry(
        sequence=row.head.seq,
        act_time=timestamp(row.time),
        act=entry.act.value,
        actor_dn=entry.actor_dn,
        actor_thumbprint=bytes.fromhex(entry.actor_key),
        peer=entry.peer,
        owner_dn=entry.owner_dn,
        credential_id=entry.credential_id,
        job_id=entry.job_id,
        lease_id=entry.lease_id,
        reason=entry.reason,
        facts=entry.facts,
        digest=row.head.digest,
    )
