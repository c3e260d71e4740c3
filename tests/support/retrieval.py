"""Owners and pilots of a server with a policy of retrievals: two VOs, somebody without one, and two pilots."""

import datetime
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from toygrid import Identity, ToyGrid

from pilotage.v1 import credential_pb2 as pb
from pilotage.v1 import job_pb2, pilot_pb2
from pilotage.voms.attribute import add_attributes
from pilotage.voms.issue import Authority, issue_attributes
from pilotage.x509.files import load_identity, write_proxy
from pilotage.x509.keys import KeyKind, PrivateKey
from pilotage.x509.proxies import is_limited, proxy_info
from pilotage_server.clock import utc_now
from support.journey import Delegated, acquire, delegate, register, retrieve_request, submit
from support.server_rig import OWNER_ROLE, Rig

HOUR = 3600
EC = KeyKind.EC_P256
LONG = {"sent_seconds": 86400, "lease_seconds": 86400}
OTHERS_ROLE = "/other/Role=analysis"
ROLES = {"owner": [OWNER_ROLE, OTHERS_ROLE, "/O=Toy Grid/CN=Carol"]}
PILOT_DN = "/O=Toy Grid/CN=Robot - pilot factory"
OTHER_PILOT_DN = "/O=Toy Grid/CN=Robot - other pilot"

BY_VO = {
    "retrieval.default": {"max_lifetime_seconds": 2 * HOUR},
    "retrieval.vo.demo": {"proxy": "limited", "path_length": 1, "max_lifetime_seconds": HOUR},
    "retrieval.plain": {"path_length": 0},
}


class Member:
    """An owner with a stored credential."""

    def __init__(self, rig: Rig, proxy: Path, *, limited: bool = False) -> None:
        self.identity = load_identity(proxy)
        self.client = rig.client(self.identity)
        self.delegated: Delegated = delegate(self.client, self.identity, kind=EC, limited=limited)

    def submit(self) -> str:
        return submit(self.client, self.delegated)

    def job(self, job_id: str) -> job_pb2.Job:
        return self.client.jobs.GetJob(job_pb2.GetJobRequest(job_id=job_id)).job


class Node:
    """A registered pilot."""

    def __init__(self, rig: Rig, proxy: Path, pilot_id: str = "") -> None:
        self.client = rig.client(proxy)
        self.pilot_id = pilot_id or register(self.client, renews=True)

    def offers(self) -> list[pilot_pb2.Lease]:
        """Take all that there is for it, at once."""
        request = pilot_pb2.AcquireJobsRequest(pilot_id=self.pilot_id, slots=4)
        return list(self.client.pilots.AcquireJobs(request).leases)

    def take(self) -> pilot_pb2.Lease:
        return acquire(self.client, self.pilot_id)

    def token(self, lease: pilot_pb2.Lease) -> str:
        request = pilot_pb2.RefreshCredentialTokenRequest(pilot_id=self.pilot_id, lease_id=lease.lease_id)
        return self.client.pilots.RefreshCredentialToken(request).credential_token

    def order(self, lease: pilot_pb2.Lease) -> int:
        report = pilot_pb2.LeaseReport(lease_id=lease.lease_id, phase=pilot_pb2.ATTEMPT_PHASE_RUNNING)
        request = pilot_pb2.HeartbeatRequest(pilot_id=self.pilot_id, reports=[report])
        return self.client.pilots.Heartbeat(request).answers[0].order

    def retrieve(self, lease: pilot_pb2.Lease, key: PrivateKey | None = None) -> tuple[x509.Certificate, ...]:
        return loaded(self.client.credentials.RetrieveCredential(retrieve_request(lease, key)).chain)

    def renewal(self, lease: pilot_pb2.Lease) -> pb.RenewCredentialRequest:
        first = retrieve_request(lease)
        return pb.RenewCredentialRequest(
            credential_token=self.token(lease),
            retrieval_key=lease.retrieval_key,
            certificate_request=first.certificate_request,
        )

    def renew(self, lease: pilot_pb2.Lease) -> tuple[x509.Certificate, ...]:
        return loaded(self.client.credentials.RenewCredential(self.renewal(lease)).chain)


def loaded(chain: Sequence[bytes]) -> tuple[x509.Certificate, ...]:
    return tuple(x509.load_der_x509_certificate(certificate) for certificate in chain)


def path_length(chain: Sequence[x509.Certificate]) -> int | None:
    info = proxy_info(chain[0])
    assert info is not None
    return info.path_length


def seconds_left(chain: Sequence[x509.Certificate], rig: Rig) -> float:
    return (chain[0].not_valid_after_utc - rig.clock()).total_seconds()


def facts(chain: Sequence[x509.Certificate], rig: Rig) -> tuple[bool, int | None, int]:
    """Return what the policy decides of a proxy: limited, path length, and life in hours."""
    return is_limited(chain[0]), path_length(chain), round(seconds_left(chain, rig) / HOUR)


def attributes(grid: ToyGrid, person: x509.Certificate, *vos: str) -> list[bytes]:
    """Return an attribute certificate of each VO, for an owner."""
    given = []
    for vo in vos:
        server = grid.voms_host(vo)
        authority = Authority(load_identity(server.cert_path, server.key_path), vo, f"voms.{vo}.example.org", 15000)
        life, fqan = datetime.timedelta(hours=12), f"/{vo}/Role=analysis"
        given.append(issue_attributes(authority, person, [fqan], lifetime=life, now=utc_now()))
    return given


def proxy_with(grid: ToyGrid, who: Identity, path: Path, *vos: str) -> Path:
    """Write a proxy with attributes of several VOs, in this order."""
    own = load_identity(who.cert_path, who.key_path)
    given = attributes(grid, own.chain[0], *vos)
    identity = add_attributes(own, given, lifetime=datetime.timedelta(hours=12), now=utc_now())
    write_proxy(path, identity.chain, identity.key)
    return path
