"""What the people who run a service do with it: the part of the SDK that `Client.admin` is."""

from collections.abc import Iterator

import grpc

from pilotage import convert
from pilotage.jobs import AuditEntry
from pilotage.v1 import admin_pb2, admin_pb2_grpc
from pilotage.wire_errors import translated

CALL_SECONDS = 60.0
PAGE = 100


class Admin:
    """Every method needs the role admin; without it the service answers ROLE_REQUIRED."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._stub = admin_pb2_grpc.AdminServiceStub(channel)

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
