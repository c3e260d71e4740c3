"""What the people who run a service do with it: the part of the SDK that `Client.admin` is."""

from collections.abc import Iterator

import grpc

from pilotage import convert
from pilotage.jobs import AuditEntry, Ban
from pilotage.v1 import admin_pb2, admin_pb2_grpc
from pilotage.wire_errors import translated

CALL_SECONDS = 60.0
PAGE = 100


class Admin:
    """Every method needs the role admin; without it the service answers ROLE_REQUIRED."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._stub = admin_pb2_grpc.AdminServiceStub(channel)

    def ban(self, subject: str, why: str) -> None:
        """Shut a DN, or an FQAN with all below it, out of everything at once."""
        with translated():
            self._stub.Ban(admin_pb2.BanRequest(subject=subject, why=why), timeout=CALL_SECONDS)

    def unban(self, subject: str) -> None:
        """Lift every ban of a DN or FQAN, those of single keys included."""
        with translated():
            self._stub.Unban(admin_pb2.UnbanRequest(subject=subject), timeout=CALL_SECONDS)

    def bans(self) -> Iterator[Ban]:
        """Yield who is banned, by admins and by the service itself."""
        token = ""
        while True:
            request = admin_pb2.ListBansRequest(page_size=PAGE, page_token=token)
            with translated():
                page = self._stub.ListBans(request, timeout=CALL_SECONDS)
            for message in page.bans:
                yield convert.ban(message)
            token = page.next_page_token
            if not token:
                return

    def audit(
        self, *, actor_dn: str = "", credential_id: str = "", job_id: str = "", act: str = ""
    ) -> Iterator[AuditEntry]:
        """Yield what was done with credentials and what was refused, newest first."""
        token = ""
        while True:
            request = admin_pb2.QueryAuditRequest(
                page_size=PAGE,
                page_token=token,
                actor_dn=actor_dn,
                credential_id=credential_id,
                job_id=job_id,
                act=act,
            )
            with translated():
                page = self._stub.QueryAudit(request, timeout=CALL_SECONDS)
            for message in page.entries:
                yield convert.audit_entry(message)
            token = page.next_page_token
            if not token:
                return
