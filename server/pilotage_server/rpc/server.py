"""The gRPC server: every service behind one guard, on two ports (DESIGN section 4)."""

from collections.abc import Iterator, Mapping
from typing import cast

import grpc.aio
import msgspec
import structlog
from google.protobuf.descriptor import ServiceDescriptor
from grpc_health.v1 import health_pb2, health_pb2_grpc

from pilotage.errors import refuse
from pilotage.reasons import Reason
from pilotage.v1 import (
    admin_pb2,
    admin_pb2_grpc,
    auth_pb2,
    auth_pb2_grpc,
    credential_pb2,
    credential_pb2_grpc,
    job_pb2,
    job_pb2_grpc,
    pilot_pb2,
    pilot_pb2_grpc,
)
from pilotage_server.auth.policy import check_complete
from pilotage_server.rpc.admin_service import AdminServicer
from pilotage_server.rpc.auth_service import AuthServicer
from pilotage_server.rpc.credential_service import CredentialServicer
from pilotage_server.rpc.guard import Guard
from pilotage_server.rpc.health import Health
from pilotage_server.rpc.job_service import JobServicer
from pilotage_server.rpc.pilot_service import PilotServicer
from pilotage_server.rpc.tls import Certificates

log = structlog.get_logger("pilotage.server")

LARGEST_MESSAGE = 4 * 1024 * 1024
OPTIONS: list[tuple[str, int]] = [
    ("grpc.max_receive_message_length", LARGEST_MESSAGE),
    ("grpc.max_send_message_length", LARGEST_MESSAGE),
    ("grpc.max_metadata_size", 32 * 1024),
    ("grpc.max_concurrent_streams", 256),
    # A second server on the same port is a mistake, and must fail.
    ("grpc.so_reuseport", 0),
    ("grpc.server_handshake_timeout_ms", 10_000),
    ("grpc.max_connection_idle_ms", 120_000),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
]

DESCRIPTORS: tuple[ServiceDescriptor, ...] = tuple(
    descriptor
    for module in (auth_pb2, job_pb2, pilot_pb2, credential_pb2, admin_pb2, health_pb2)
    for descriptor in module.DESCRIPTOR.services_by_name.values()
)


class Servicers(msgspec.Struct, frozen=True):
    """What answers the calls."""

    auth: AuthServicer
    credentials: CredentialServicer
    jobs: JobServicer
    pilots: PilotServicer
    admin: AdminServicer
    health: Health


def methods() -> Iterator[str]:
    """Return the full name of every method the server offers."""
    for descriptor in DESCRIPTORS:
        for method in descriptor.methods:
            yield f"/{descriptor.full_name}/{method.name}"


def service_names() -> list[str]:
    """Return the services that the health service tells about."""
    return [descriptor.full_name for descriptor in DESCRIPTORS if descriptor.file.package != "grpc.health.v1"]


class _ByName:
    """A server as the stubs see it, to which methods are known by name alone.

    For each registered method `grpc.aio` keeps a task that waits for a call of it, and each call has it look through
    all of them, which costs more than finding a method in the generic handlers, by its name.
    """

    def __init__(self, server: grpc.aio.Server) -> None:
        self.add_generic_rpc_handlers = server.add_generic_rpc_handlers

    def add_registered_method_handlers(self, _service: str, _handlers: Mapping[str, object]) -> None:
        """Leave it at the generic handlers."""


class RpcServer:
    """Listen, serve, and stop without cutting off who is being served."""

    def __init__(self, guard: Guard, servicers: Servicers, certificates: Certificates) -> None:
        check_complete(methods())
        self._certificates = certificates
        self._server = grpc.aio.server(interceptors=(guard,), options=OPTIONS)
        names = cast(grpc.aio.Server, _ByName(self._server))
        auth_pb2_grpc.add_AuthServiceServicer_to_server(servicers.auth, names)
        credential_pb2_grpc.add_CredentialServiceServicer_to_server(servicers.credentials, names)
        job_pb2_grpc.add_JobServiceServicer_to_server(servicers.jobs, names)
        pilot_pb2_grpc.add_PilotServiceServicer_to_server(servicers.pilots, names)
        admin_pb2_grpc.add_AdminServiceServicer_to_server(servicers.admin, names)
        health_pb2_grpc.add_HealthServicer_to_server(servicers.health.servicer, names)

    def listen(self, address: str) -> int:
        """Open the login port: TLS 1.3, callers show session tokens. Return the port's number."""
        return self._bind(address, self._certificates.login_port())

    def listen_mutual(self, address: str) -> int:
        """Open the mutual-TLS port: callers show end-entity certificates. Return the port's number."""
        return self._bind(address, self._certificates.mutual_port())

    async def start(self) -> None:
        """Begin to serve."""
        await self._server.start()

    async def stop(self, grace_seconds: float) -> None:
        """Take no new calls, let running ones end for a while, then end them."""
        await self._server.stop(grace_seconds)

    def _bind(self, address: str, credentials: grpc.ServerCredentials) -> int:
        try:
            return self._server.add_secure_port(address, credentials)
        except RuntimeError as error:
            raise refuse(Reason.UNAVAILABLE, f"The server cannot listen on {address}; is the port taken?") from error
