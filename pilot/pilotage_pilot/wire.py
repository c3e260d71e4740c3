"""The pilot's values as protobuf messages, and back."""

from datetime import datetime, timedelta

from google.protobuf.duration_pb2 import Duration

from pilotage.errors import PilotageError
from pilotage.secret import Secret
from pilotage.v1 import job_pb2, pilot_pb2
from pilotage_pilot.lease import Lease, Offer, Report, Result, Usage

LONGEST_MESSAGE = 1000


def duration(seconds: float) -> Duration:
    """Return a protobuf duration."""
    message = Duration()
    message.FromTimedelta(timedelta(seconds=seconds))
    return message


def offer(value: Offer) -> pilot_pb2.PilotOffer:
    """Return an offer as it travels."""
    return pilot_pb2.PilotOffer(
        site=value.site,
        worker_node=value.worker_node,
        slots=value.slots,
        cores=value.cores,
        memory_bytes=value.memory_bytes,
        disk_bytes=value.disk_bytes,
        wall_time=duration(value.wall_seconds),
        tags=value.tags,
        version=value.version,
        renews=True,
    )


def usage(value: Usage) -> job_pb2.Usage:
    """Return usage as it travels."""
    return job_pb2.Usage(
        wall_seconds=value.wall_seconds,
        cpu_user_seconds=value.cpu_user_seconds,
        cpu_system_seconds=value.cpu_system_seconds,
        max_rss_bytes=value.max_rss_bytes,
    )


def report(value: Report) -> pilot_pb2.LeaseReport:
    """Return a report as it travels."""
    error, end = value.renewal_failure, value.proxy_expire_time
    return pilot_pb2.LeaseReport(
        lease_id=value.lease_id,
        phase=pilot_pb2.AttemptPhase.ValueType(int(value.phase)),
        usage=usage(value.usage),
        account=value.account,
        uid=value.uid,
        renewal_failure=None if error is None else failure(error, end),
    )


def failure(error: PilotageError, proxy_end: datetime | None) -> pilot_pb2.RenewalFailure:
    """Return a failed renewal as it travels, with the end of the proxy that the payload has."""
    message = pilot_pb2.RenewalFailure(reason=error.reason.name, message=error.message[:LONGEST_MESSAGE])
    if proxy_end is not None:
        message.proxy_expire_time.FromDatetime(proxy_end)
    return message


def lease(value: pilot_pb2.Lease) -> Lease:
    """Return a lease that arrived."""
    spec = value.spec
    return Lease(
        lease_id=value.lease_id,
        job_id=value.job_id,
        attempt=value.attempt,
        owner_dn=value.owner_dn,
        command=tuple(spec.command),
        environment=dict(spec.environment),
        input_sandbox=spec.input_sandbox,
        outputs=tuple(spec.outputs),
        cores=spec.cores,
        memory_bytes=spec.memory_bytes,
        disk_bytes=spec.disk_bytes,
        wall_seconds=spec.wall_time.ToTimedelta().total_seconds(),
        token=Secret(value.credential_token),
        retrieval_key=Secret(value.retrieval_key),
        fqans=tuple(spec.fqans),
    )


def result(value: Result, worker_node: str, pilot_uid: int) -> job_pb2.AttemptResult:
    """Return a result as it travels, with where it came from."""
    return job_pb2.AttemptResult(
        outcome=job_pb2.Outcome.ValueType(int(value.outcome)),
        exit_code=value.exit_code,
        signal=value.signal,
        usage=usage(value.usage),
        account=value.account,
        uid=value.uid,
        pilot_uid=pilot_uid,
        worker_node=worker_node,
        output_sandbox=value.output_sandbox,
        reason=value.reason,
        message=value.message,
    )
