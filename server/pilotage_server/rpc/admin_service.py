"""AdminService on the wire: declared, and not built yet. Callers without the admin role are told that first."""

from pilotage.errors import refuse
from pilotage.reasons import Reason
from pilotage.v1 import admin_pb2 as pb
from pilotage.v1 import admin_pb2_grpc
from pilotage_server.rpc.guard import Context


class AdminServicer(admin_pb2_grpc.AdminServiceServicer):
    """Answer UNIMPLEMENTED."""

    async def ListSites(self, request: pb.ListSitesRequest, context: Context) -> pb.ListSitesResponse:
        """Refuse: not built yet."""
        raise refuse(Reason.NOT_IMPLEMENTED)

    async def PutSite(self, request: pb.PutSiteRequest, context: Context) -> pb.PutSiteResponse:
        """Refuse: not built yet."""
        raise refuse(Reason.NOT_IMPLEMENTED)

    async def Ban(self, request: pb.BanRequest, context: Context) -> pb.BanResponse:
        """Refuse: not built yet."""
        raise refuse(Reason.NOT_IMPLEMENTED)

    async def Unban(self, request: pb.UnbanRequest, context: Context) -> pb.UnbanResponse:
        """Refuse: not built yet."""
        raise refuse(Reason.NOT_IMPLEMENTED)

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
        """Refuse: not built yet."""
        raise refuse(Reason.NOT_IMPLEMENTED)
