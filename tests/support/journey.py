"""The steps of a job's life around its credential, each as the real caller takes it."""

import datetime
import os
import uuid
from collections.abc import Sequence

import msgspec
from cryptography.hazmat.primitives.serialization import Encoding

from pilotage.v1 import credential_pb2, job_pb2, pilot_pb2
from pilotage.x509.files import LocalIdentity
from pilotage.x509.keys import KeyKind, PrivateKey, PublicKey, make_key
from pilotage.x509.proxies import sign_proxy
from pilotage.x509.requests import check_request, make_request
from pilotage_server.clock import utc_now
from support.server_rig import Client

HOURS = 3600


class Delegated(msgspec.Struct, frozen=True):
    """A stored credential and the key that opens it."""

    credential_id: str
    retrieval_key: bytes
    message: credential_pb2.Credential


def delegate(
    owner: Client,
    identity: LocalIdentity,
    *,
    kind: KeyKind = KeyKind.RSA_2048,
    lifetime_seconds: int = 10 * HOURS,
    limited: bool = False,
) -> Delegated:
    """Delegate a credential as the CLI does."""
    request = complete_request(owner, identity, kind=kind, lifetime_seconds=lifetime_seconds, limited=limited)
    stored = owner.credentials.CompleteDelegation(request).credential
    return Delegated(stored.credential_id, request.retrieval_key, stored)


def complete_request(
    owner: Client,
    identity: LocalIdentity,
    *,
    kind: KeyKind = KeyKind.RSA_2048,
    lifetime_seconds: int = 10 * HOURS,
    limited: bool = False,
) -> credential_pb2.CompleteDelegationRequest:
    """Begin a delegation, sign the proxy, and return what completes it."""
    begun = owner.credentials.BeginDelegation(
        credential_pb2.BeginDelegationRequest(key_kind=credential_pb2.KeyKind.ValueType(kind.value))
    )
    public = check_request(begun.certificate_request)
    return credential_pb2.CompleteDelegationRequest(
        delegation_id=begun.delegation_id,
        chain=proxy_chain(identity, public, lifetime_seconds=lifetime_seconds, limited=limited),
        retrieval_key=os.urandom(32),
    )


def proxy_chain(
    identity: LocalIdentity, public: PublicKey, *, lifetime_seconds: int = 10 * HOURS, limited: bool = False
) -> list[bytes]:
    """Sign a proxy for a key; return the whole chain, DER."""
    lifetime = datetime.timedelta(seconds=lifetime_seconds)
    proxy = sign_proxy(identity.chain, identity.key, public, lifetime=lifetime, limited=limited, now=utc_now())
    return [proxy.public_bytes(Encoding.DER), *identity.chain_der]


def submit(owner: Client, delegated: Delegated, *, hold: bool = False) -> str:
    """Submit one small job and return its id."""
    spec = job_pb2.JobSpec(name="probe", command=["/bin/true"], cores=1)
    request = job_pb2.SubmitJobsRequest(
        request_id=str(uuid.uuid4()),
        specs=[spec],
        credential_id=delegated.credential_id,
        retrieval_key=delegated.retrieval_key,
        hold=hold,
    )
    return str(owner.jobs.SubmitJobs(request).job_ids[0])


def register(pilot: Client, slots: int = 4, *, renews: bool = False, tags: Sequence[str] = ()) -> str:
    """Register a pilot and return its id."""
    offer = pilot_pb2.PilotOffer(
        site="TOY",
        worker_node="wn1",
        slots=slots,
        cores=8,
        memory_bytes=2**36,
        disk_bytes=2**40,
        version="test",
        renews=renews,
        tags=tags,
    )
    offer.wall_time.FromSeconds(7 * 86400)
    answer = pilot.pilots.RegisterPilot(pilot_pb2.RegisterPilotRequest(request_id=str(uuid.uuid4()), offer=offer))
    return str(answer.pilot_id)


def acquire(pilot: Client, pilot_id: str, slots: int = 1) -> pilot_pb2.Lease:
    """Acquire the one job that waits."""
    answer = pilot.pilots.AcquireJobs(pilot_pb2.AcquireJobsRequest(pilot_id=pilot_id, slots=slots))
    assert len(answer.leases) == 1, answer
    return answer.leases[0]


def retrieve_request(lease: pilot_pb2.Lease, key: PrivateKey | None = None) -> credential_pb2.RetrieveCredentialRequest:
    """Return the request of a lease's credential, for a key pair of the pilot's own."""
    return credential_pb2.RetrieveCredentialRequest(
        credential_token=lease.credential_token,
        retrieval_key=lease.retrieval_key,
        certificate_request=make_request(key or make_key(KeyKind.EC_P256)),
    )
