"""Between the SDK's values and protobuf messages: the only module that knows both."""

import datetime

from google.protobuf.timestamp_pb2 import Timestamp

from pilotage.jobs import (
    AttemptResult,
    AuditEntry,
    Ban,
    Caller,
    Credential,
    Issuance,
    ItemResult,
    Job,
    JobEvent,
    JobProxy,
    JobSpec,
    LogChunk,
    NameLink,
    Rebound,
    Usage,
)
from pilotage.states import JobState, Outcome
from pilotage.v1 import admin_pb2, auth_pb2, credential_pb2, job_pb2
from pilotage.x509.keys import KeyKind


def time_of(stamp: Timestamp) -> datetime.datetime:
    """Return a timestamp as aware UTC."""
    return stamp.ToDatetime(datetime.UTC)


def spec_to_message(spec: JobSpec) -> job_pb2.JobSpec:
    """Return a specification as it travels."""
    message = job_pb2.JobSpec(
        name=spec.name,
        command=spec.command,
        environment=spec.environment,
        input_sandbox=spec.input_sandbox,
        outputs=spec.outputs,
        cores=spec.cores,
        memory_bytes=spec.memory_bytes,
        disk_bytes=spec.disk_bytes,
        site=spec.site,
        tags=spec.tags,
        priority=spec.priority,
        max_attempts=spec.max_attempts,
        fqans=spec.fqans,
    )
    if spec.wall_seconds:
        message.wall_time.FromTimedelta(datetime.timedelta(seconds=spec.wall_seconds))
    return message


def spec_from_message(message: job_pb2.JobSpec) -> JobSpec:
    """Return the specification of a stored job."""
    return JobSpec(
        name=message.name,
        command=tuple(message.command),
        environment=dict(message.environment),
        input_sandbox=message.input_sandbox,
        outputs=tuple(message.outputs),
        cores=message.cores,
        memory_bytes=message.memory_bytes,
        disk_bytes=message.disk_bytes,
        wall_seconds=message.wall_time.ToTimedelta().total_seconds(),
        site=message.site,
        tags=tuple(message.tags),
        priority=message.priority,
        max_attempts=message.max_attempts,
        fqans=tuple(message.fqans),
    )


def job(message: job_pb2.Job) -> Job:
    """Return a stored job."""
    return Job(
        job_id=message.job_id,
        owner_dn=message.owner_dn,
        spec=spec_from_message(message.spec),
        state=JobState(message.state),
        reason=message.reason,
        message=message.message,
        attempt=message.attempt,
        cancel_requested=message.cancel_requested,
        create_time=time_of(message.create_time),
        start_time=time_of(message.start_time) if message.HasField("start_time") else None,
        end_time=time_of(message.end_time) if message.HasField("end_time") else None,
        result=_result(message.result) if message.HasField("result") else None,
        credential_id=message.credential_id,
        vo=message.vo,
        fqan=message.fqan,
        proxy=_proxy(message.proxy) if message.HasField("proxy") else None,
    )


def _proxy(message: job_pb2.JobProxy) -> JobProxy:
    return JobProxy(
        expire_time=time_of(message.expire_time),
        next_renewal_time=time_of(message.next_renewal_time) if message.HasField("next_renewal_time") else None,
        issued=message.issued,
        error_time=time_of(message.error_time) if message.HasField("error_time") else None,
        reason=message.reason,
        message=message.message,
    )


def _result(message: job_pb2.AttemptResult) -> AttemptResult:
    return AttemptResult(
        outcome=Outcome(message.outcome),
        exit_code=message.exit_code,
        signal=message.signal,
        usage=Usage(
            wall_seconds=message.usage.wall_seconds,
            cpu_user_seconds=message.usage.cpu_user_seconds,
            cpu_system_seconds=message.usage.cpu_system_seconds,
            max_rss_bytes=message.usage.max_rss_bytes,
        ),
        account=message.account,
        uid=message.uid,
        pilot_uid=message.pilot_uid,
        worker_node=message.worker_node,
        output_sandbox=message.output_sandbox,
        reason=message.reason,
        message=message.message,
    )


def event(message: job_pb2.JobEvent) -> JobEvent:
    """Return one move of a job."""
    return JobEvent(
        event_time=time_of(message.event_time),
        from_state=JobState(message.from_state) if message.from_state else None,
        to_state=JobState(message.to_state),
        attempt=message.attempt,
        actor=message.actor,
        reason=message.reason,
        message=message.message,
    )


def item_result(message: job_pb2.ItemResult) -> ItemResult:
    """Return what became of one item."""
    return ItemResult(id=message.id, reason=message.reason, message=message.message)


def log_chunk(message: job_pb2.GetLogResponse) -> LogChunk:
    """Return a piece of a log."""
    return LogChunk(data=message.data, offset=message.offset, truncated=message.truncated)


def credential(message: credential_pb2.Credential) -> Credential:
    """Return what the service tells about a credential."""
    kinds = {kind.value: kind.name.lower() for kind in KeyKind}
    return Credential(
        credential_id=message.credential_id,
        owner_dn=message.owner_dn,
        name=message.name,
        vo=message.vo,
        fqans=tuple(message.fqans),
        key_kind=kinds.get(message.key_kind, "unknown"),
        create_time=time_of(message.create_time),
        expire_time=time_of(message.expire_time),
        destroy_time=time_of(message.destroy_time) if message.HasField("destroy_time") else None,
        limited=message.limited,
        revoke_time=time_of(message.revoke_time) if message.HasField("revoke_time") else None,
    )


def rebound(message: job_pb2.RebindCredentialResponse) -> Rebound:
    """Return what a new credential did for held jobs."""
    return Rebound(released=message.released, still_held=message.still_held)


def issuance(message: credential_pb2.Issuance) -> Issuance:
    """Return one proxy that was made from a credential."""
    return Issuance(
        issuance_id=message.issuance_id,
        credential_id=message.credential_id,
        job_id=message.job_id,
        lease_id=message.lease_id,
        attempt=message.attempt,
        pilot_dn=message.pilot_dn,
        serial=message.serial,
        issue_time=time_of(message.issue_time),
        expire_time=time_of(message.expire_time),
        peer=message.peer,
    )


def name_link(message: credential_pb2.NameLink) -> NameLink:
    """Return what one DN said of another."""
    return NameLink(
        dn=message.dn,
        other_dn=message.other_dn,
        ask_time=time_of(message.ask_time),
        link_time=time_of(message.link_time) if message.HasField("link_time") else None,
    )


def ban(message: admin_pb2.BanInfo) -> Ban:
    """Return who is banned."""
    return Ban(
        subject=message.subject,
        thumbprint=message.thumbprint.hex(),
        why=message.why,
        by_dn=message.by_dn,
        ban_time=time_of(message.ban_time),
    )


def audit_entry(message: admin_pb2.AuditEntry) -> AuditEntry:
    """Return one row of the audit; thumbprint and digest as hex."""
    return AuditEntry(
        sequence=message.sequence,
        act_time=time_of(message.act_time),
        act=message.act,
        actor_dn=message.actor_dn,
        actor_thumbprint=message.actor_thumbprint.hex(),
        peer=message.peer,
        owner_dn=message.owner_dn,
        credential_id=message.credential_id,
        job_id=message.job_id,
        lease_id=message.lease_id,
        reason=message.reason,
        facts=dict(message.facts),
        digest=message.digest.hex(),
    )


def caller(message: auth_pb2.WhoAmIResponse) -> Caller:
    """Return how the server sees this caller."""
    return Caller(
        dn=message.principal.dn,
        vo=message.principal.vo,
        fqans=tuple(message.principal.fqans),
        limited=message.principal.limited,
        roles=tuple(message.roles),
        expire_time=time_of(message.expire_time),
    )
