"""The authorisation table: whole, and meaning what it says."""

import datetime
import importlib
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor, FileDescriptor, ServiceDescriptor

from pilotage.errors import PilotageError
from pilotage.reasons import Reason
from pilotage_server.auth.policy import TABLE, Policy, Role, Rule, check_complete
from pilotage_server.principal import Principal, Proof

PROTOS = sorted((Path(__file__).resolve().parents[2] / "protos" / "pilotage" / "v1").glob("*.proto"))
FILES: list[FileDescriptor] = [importlib.import_module(f"pilotage.v1.{path.stem}_pb2").DESCRIPTOR for path in PROTOS]
HEALTH: FileDescriptor = importlib.import_module("grpc_health.v1.health_pb2").DESCRIPTOR
SERVICES: list[ServiceDescriptor] = [
    *(service for file in FILES for service in file.services_by_name.values()),
    *HEALTH.services_by_name.values(),
]
METHODS = {f"/{service.full_name}/{method.name}" for service in SERVICES for method in service.methods}

POLICY = Policy(
    owner=["/demo/Role=analysis", "/O=Toy Grid/CN=Carol"], pilot=["/demo/Role=pilot"], admin=["/O=Toy Grid/CN=admin"]
)
ALICE = Principal(
    dn="/O=Toy Grid/CN=Alice",
    vo="demo",
    fqans=("/demo/Role=analysis", "/demo"),
    limited=False,
    thumbprint=b"t" * 32,
    proof=Proof.SESSION,
    expire_time=datetime.datetime(2026, 11, 21, tzinfo=datetime.UTC),
)
PILOT = msgspec.structs.replace(ALICE, dn="/O=Toy Grid/CN=Robot", fqans=("/demo/Role=pilot", "/demo"))
ADMIN = msgspec.structs.replace(ALICE, dn="/O=Toy Grid/CN=admin", vo="", fqans=())
NOBODY = msgspec.structs.replace(ALICE, dn="/O=Toy Grid/CN=Mallory", vo="", fqans=())
LIMITED = msgspec.structs.replace(ALICE, limited=True)


def refusal(method: str, caller: Principal | None) -> Reason | None:
    try:
        POLICY.check(method, caller)
    except PilotageError as error:
        return error.reason
    return None


def test_every_method_has_a_row_and_every_row_a_method() -> None:
    assert TABLE.keys() == METHODS
    check_complete(METHODS)


def test_a_method_without_a_row_stops_the_start_and_is_refused_at_call() -> None:
    with pytest.raises(PilotageError, match="JobService/Brew"):
        check_complete([*METHODS, "/pilotage.v1.JobService/Brew"])
    assert refusal("/pilotage.v1.JobService/Brew", ADMIN) is Reason.PERMISSION_DENIED


@pytest.mark.parametrize("method", sorted(METHODS))
def test_only_login_and_health_are_open_to_strangers(method: str) -> None:
    is_open = method.startswith("/grpc.health.v1.") or method.endswith(("/BeginLogin", "/Login"))
    assert refusal(method, None) is (None if is_open else Reason.UNAUTHENTICATED)


@pytest.mark.parametrize("method", sorted(METHODS))
def test_each_rule_lets_in_whom_it_names_and_nobody_else(method: str) -> None:
    rules = set(TABLE[method].rules)
    free = bool(rules & {Rule.ANYONE, Rule.AUTHENTICATED})
    for caller, mine in ((ALICE, {Rule.OWNER}), (PILOT, {Rule.PILOT, Rule.LEASE_HOLDER}), (ADMIN, {Rule.ADMIN})):
        assert refusal(method, caller) is (None if free or rules & mine else Reason.ROLE_REQUIRED)
    assert refusal(method, NOBODY) is (None if free else Reason.ROLE_REQUIRED)


def test_a_limited_proxy_may_look_but_not_submit_delegate_or_rule() -> None:
    refused = {method for method in METHODS if refusal(method, LIMITED) is Reason.LIMITED_PROXY_REFUSED}
    assert {method.rpartition("/")[2] for method in refused} == {
        "SubmitJobs",
        "RebindCredential",
        "RetryJobs",
        "BeginDelegation",
        "CompleteDelegation",
        "LinkName",
        "UnlinkName",
        "PutSite",
        "Ban",
        "Unban",
        "DrainPilot",
        "SetShare",
    }
    assert refusal("/pilotage.v1.JobService/GetJob", LIMITED) is None


def test_roles_match_whole_names_only() -> None:
    for fqan in ("/demo/Role=pilot2", "/demo/sub/Role=pilot", "/demo", "/other/Role=pilot", "demo/Role=pilot"):
        assert POLICY.roles(msgspec.structs.replace(NOBODY, fqans=(fqan,))) == frozenset()
    assert POLICY.roles(msgspec.structs.replace(NOBODY, dn="/O=Toy Grid/CN=admin/CN=1")) == frozenset()
    assert POLICY.roles(msgspec.structs.replace(NOBODY, dn="/O=Toy Grid/CN=Carol")) == {Role.OWNER}


def test_an_attribute_cannot_pose_as_a_subject_nor_a_subject_as_an_attribute() -> None:
    assert POLICY.roles(msgspec.structs.replace(NOBODY, fqans=("/O=Toy Grid/CN=admin",))) == frozenset()
    assert POLICY.roles(msgspec.structs.replace(NOBODY, dn="/demo/Role=pilot")) == frozenset()


@pytest.mark.parametrize("entry", ["", "/", "demo", "//demo", "*"])
def test_a_role_that_is_neither_dn_nor_fqan_is_refused(entry: str) -> None:
    with pytest.raises(PilotageError, match="CONFIG_INVALID"):
        Policy([entry], ["/demo/Role=pilot"], [])


BYTES = {
    *("BeginLoginResponse.challenge", "LoginRequest.challenge", "LoginRequest.signature", "LoginRequest.chain"),
    *("Principal.thumbprint", "BeginDelegationResponse.certificate_request", "CompleteDelegationRequest.chain"),
    *("RetrieveCredentialRequest.certificate_request", "RetrieveCredentialResponse.chain"),
    *("RenewCredentialRequest.certificate_request", "RenewCredentialResponse.chain"),
    *("AuditEntry.actor_thumbprint", "AuditEntry.digest", "BanInfo.thumbprint"),
    *("UploadSandboxRequest.data", "DownloadSandboxResponse.data", "GetLogResponse.data", "AppendLogRequest.data"),
}
"""Every field of bytes: certificates, requests, signatures, digests are public; the rest owners and payloads wrote."""
SEALING = {
    *("CompleteDelegationRequest.retrieval_key", "SubmitJobsRequest.retrieval_key", "Lease.retrieval_key"),
    *("RebindCredentialRequest.retrieval_key", "RefreshCredentialTokenResponse.retrieval_key"),
    *("RetrieveCredentialRequest.retrieval_key", "RenewCredentialRequest.retrieval_key"),
}
"""32 random bytes that help to open a sealed credential; no answer to a question about one has them."""


def messages(within: FileDescriptor | Descriptor) -> Iterator[Descriptor]:
    """Every message, nested ones as well."""
    inner = within.message_types_by_name.values() if isinstance(within, FileDescriptor) else within.nested_types
    for message in inner:
        yield message
        yield from messages(message)


def test_no_message_carries_a_private_key() -> None:
    fields = [field for file in FILES for message in messages(file) for field in message.fields]
    found = {name_of(field) for field in fields if field.type == FieldDescriptor.TYPE_BYTES}
    assert found == BYTES | SEALING
    texts = {name_of(field) for field in fields if field.type == FieldDescriptor.TYPE_STRING}
    suspects = {name for name in texts if any(word in name for word in ("key", "pem", "private", "secret", "password"))}
    assert suspects == {"JobSpec.EnvironmentEntry.key", "AuditEntry.FactsEntry.key"}


def name_of(field: FieldDescriptor) -> str:
    """Return the message and the field."""
    return field.full_name.removeprefix("pilotage.v1.")
