"""Messages of jobs and leases to domain values and back. Numbers of enums are the same on both sides."""

import base64
import binascii
import datetime
import math
from collections.abc import Sequence

import msgspec
from google.protobuf import duration_pb2, timestamp_pb2

from pilotage.errors import refuse
from pilotage.reasons import Reason
from pilotage.states import JobState, Outcome
from pilotage.v1 import job_pb2, pilot_pb2
from pilotage_server.jobs.job_desk import ItemResult
from pilotage_server.jobs.logs import Stream
from pilotage_server.rpc.values import moment, span, timestamp
from pilotage_server.workload import (
    Answer,
    AttemptResult,
    Grant,
    Job,
    JobEvent,
    JobProxy,
    JobSpec,
    Offer,
    RenewalFailure,
    Report,
    Usage,
)

PHASES = {
    pilot_pb2.ATTEMPT_PHASE_STARTING: JobState.STARTING,
    pilot_pb2.ATTEMPT_PHASE_RUNNING: JobState.RUNNING,
    pilot_pb2.ATTEMPT_PHASE_HOLDING: JobState.HOLDING,
}


class PageToken(msgspec.Struct, frozen=True, array_like=True):
    """Where a page ends, and for which filter that holds."""

    place: int
    states: tuple[int, ...] = ()


def page_token(place: int, states: Sequence[JobState] = ()) -> str:
    """Return the token of the page that begins after this place."""
    token = PageToken(place, tuple(int(state) for state in states))
    return base64.urlsafe_b64encode(msgspec.msgpack.encode(token)).decode()


def page_place(token: str, states: Sequence[JobState] = ()) -> int | None:
    """Return where a page begins, None for the first; PAGE_TOKEN_INVALID when it is another list's token."""
    if not token:
        return None
    try:
        found = msgspec.msgpack.decode(base64.b64decode(token, altchars=b"-_", validate=True), type=PageToken)
    except (binascii.Error, ValueError, msgspec.DecodeError) as error:
        raise refuse(Reason.PAGE_TOKEN_INVALID) from error
    if found.states != tuple(int(state) for state in states) or not 0 <= found.place < 2**63:
        raise refuse(Reason.PAGE_TOKEN_INVALID)
    return found.place


def whole_seconds_up(message: duration_pb2.Duration, what: str) -> int:
    """Return a span as whole seconds, rounded up: a job never gets less than it asked for."""
    seconds = math.ceil(span(message).total_seconds())
    if seconds < 0:
        raise refuse(Reason.INVALID_ARGUMENT, f"{what} is negative.")
    return seconds


def duration(seconds: float) -> duration_pb2.Duration:
    """Return seconds as a message."""
    message = duration_pb2.Duration()
    message.FromTimedelta(datetime.timedelta(seconds=seconds))
    return message


def states_from(numbers: Sequence[int]) -> tuple[JobState, ...]:
    """Return the states of a filter, sorted, or raise INVALID_ARGUMENT."""
    try:
        return tuple(sorted({JobState(number) for number in numbers}))
    except ValueError as error:
        raise refuse(Reason.INVALID_ARGUMENT, "The filter holds a state that does not exist.") from error


def stream_from(number: int) -> Stream:
    """Return one of the two streams, or raise INVALID_ARGUMENT."""
    try:
        return Stream(number)
    except ValueError as error:
        raise refuse(Reason.INVALID_ARGUMENT, "The log stream is neither standard output nor error.") from error


def spec_from(message: job_pb2.JobSpec) -> JobSpec:
    """Return what an owner asks for, as it was said."""
    return JobSpec(
        name=message.name,
        command=tuple(message.command),
        environment=dict(message.environment),
        input_sandbox=message.input_sandbox,
        outputs=tuple(message.outputs),
        cores=message.cores,
        memory_bytes=message.memory_bytes,
        disk_bytes=message.disk_bytes,
        wall_seconds=whole_seconds_up(message.wall_time, "wall_time"),
        site=message.site,
        tags=tuple(message.tags),
        priority=message.priority,
        max_attempts=message.max_attempts,
        fqans=tuple(message.fqans),
    )


def spec_to(spec: JobSpec) -> job_pb2.JobSpec:
    """Return a stored specification as a message."""
    return job_pb2.JobSpec(
        name=spec.name,
        command=spec.command,
        environment=spec.environment,
        input_sandbox=spec.input_sandbox,
        outputs=spec.outputs,
        cores=spec.cores,
        memory_bytes=spec.memory_bytes,
        disk_bytes=spec.disk_bytes,
        wall_time=duration(spec.wall_seconds),
        site=spec.site,
        tags=spec.tags,
        priority=spec.priority,
        max_attempts=spec.max_attempts,
        fqans=spec.fqans,
    )


def usage_from(message: job_pb2.Usage) -> Usage:
    """Return what an attempt used."""
    return Usage(
        wall_seconds=message.wall_seconds,
        cpu_user_seconds=message.cpu_user_seconds,
        cpu_system_seconds=message.cpu_system_seconds,
        max_rss_bytes=message.max_rss_bytes,
    )


def result_from(message: job_pb2.AttemptResult) -> AttemptResult:
    """Return how an attempt ended, as the pilot says it."""
    try:
        outcome = Outcome(message.outcome)
    except ValueError as error:
        raise refuse(Reason.INVALID_ARGUMENT, "The result has no outcome.") from error
    return AttemptResult(
        outcome=outcome,
        exit_code=message.exit_code,
        signal=message.signal,
        usage=usage_from(message.usage),
        account=message.account,
        uid=message.uid,
        pilot_uid=message.pilot_uid,
        worker_node=message.worker_node,
        output_sandbox=message.output_sandbox,
        reason=message.reason,
        message=message.message,
    )


def result_to(result: AttemptResult) -> job_pb2.AttemptResult:
    """Return a stored result as a message."""
    usage = result.usage
    return job_pb2.AttemptResult(
        outcome=job_pb2.Outcome.ValueType(result.outcome.value),
        exit_code=result.exit_code,
        signal=result.signal,
        usage=job_pb2.Usage(
            wall_seconds=usage.wall_seconds,
            cpu_user_seconds=usage.cpu_user_seconds,
            cpu_system_seconds=usage.cpu_system_seconds,
            max_rss_bytes=usage.max_rss_bytes,
        ),
        account=result.account,
        uid=result.uid,
        pilot_uid=result.pilot_uid,
        worker_node=result.worker_node,
        output_sandbox=result.output_sandbox,
        reason=result.reason,
        message=result.message,
    )


def state_to(state: JobState | None) -> job_pb2.JobState.ValueType:
    """Return a state's number; UNSPECIFIED for none."""
    return job_pb2.JobState.ValueType(0 if state is None else state.value)


def job_to(job: Job) -> job_pb2.Job:
    """Return a job as its owner sees it."""
    return job_pb2.Job(
        job_id=job.job_id,
        owner_dn=job.owner_dn,
        spec=spec_to(job.spec),
        state=state_to(job.state),
        reason=job.reason,
        message=job.message,
        attempt=job.attempt,
        cancel_requested=job.cancel_requested,
        create_time=timestamp(job.create_time),
        start_time=_maybe(job.start_time),
        end_time=_maybe(job.end_time),
        result=None if job.result is None else result_to(job.result),
        credential_id=job.credential_id,
        vo=job.vo,
        fqan=job.fqan,
        proxy=None if job.proxy is None else proxy_to(job.proxy),
    )


def proxy_to(proxy: JobProxy) -> job_pb2.JobProxy:
    """Return the proxy a job has, and how its renewal stands."""
    return job_pb2.JobProxy(
        expire_time=timestamp(proxy.expire_time),
        next_renewal_time=_maybe(proxy.next_renewal_time),
        issued=proxy.issued,
        error_time=_maybe(proxy.error_time),
        reason=proxy.reason,
        message=proxy.message,
    )


def _maybe(moment: datetime.datetime | None) -> timestamp_pb2.Timestamp | None:
    return None if moment is None else timestamp(moment)


def event_to(event: JobEvent) -> job_pb2.JobEvent:
    """Return one move of a job."""
    return job_pb2.JobEvent(
        event_time=timestamp(event.event_time),
        from_state=state_to(event.from_state),
        to_state=state_to(event.to_state),
        attempt=event.attempt,
        actor=event.actor,
        reason=event.reason,
        message=event.message,
    )


def item_to(item: ItemResult) -> job_pb2.ItemResult:
    """Return what became of one item."""
    return job_pb2.ItemResult(id=item.item_id, reason=item.reason, message=item.message)


def offer_from(message: pilot_pb2.PilotOffer) -> Offer:
    """Return what a pilot offers; its time is rounded down, so that no job gets a second too little."""
    return Offer(
        site=message.site,
        worker_node=message.worker_node,
        slots=message.slots,
        cores=message.cores,
        memory_bytes=message.memory_bytes,
        disk_bytes=message.disk_bytes,
        wall_seconds=math.floor(span(message.wall_time).total_seconds()),
        tags=tuple(message.tags),
        version=message.version,
        renews=message.renews,
    )


def report_from(message: pilot_pb2.LeaseReport) -> Report:
    """Return what a pilot says about a lease."""
    if message.phase != pilot_pb2.ATTEMPT_PHASE_UNSPECIFIED and message.phase not in PHASES:
        raise refuse(Reason.INVALID_ARGUMENT, "A report has a phase that does not exist.")
    return Report(
        lease_id=message.lease_id,
        phase=PHASES.get(message.phase),
        usage=usage_from(message.usage),
        account=message.account,
        uid=message.uid,
        renewal_failure=failure_from(message.renewal_failure) if message.HasField("renewal_failure") else None,
    )


def failure_from(message: pilot_pb2.RenewalFailure) -> RenewalFailure:
    """Return what a pilot says about a renewal that failed."""
    end = moment(message.proxy_expire_time) if message.HasField("proxy_expire_time") else None
    return RenewalFailure(message.reason, message.message, end)


def answer_to(answer: Answer) -> pilot_pb2.LeaseAnswer:
    """Return the answer to a report."""
    return pilot_pb2.LeaseAnswer(
        lease_id=answer.lease_id,
        order=pilot_pb2.LeaseOrder.ValueType(answer.order.value),
        expire_time=_maybe(answer.expire_time),
        reason=answer.reason,
    )


def grant_to(grant: Grant) -> pilot_pb2.Lease:
    """Return a lease as its pilot gets it: here the token and the key leave, and nowhere else but at a refresh."""
    return pilot_pb2.Lease(
        lease_id=grant.lease_id,
        job_id=grant.job_id,
        attempt=grant.attempt,
        owner_dn=grant.owner_dn,
        spec=spec_to(grant.spec),
        expire_time=timestamp(grant.expire_time),
        credential_id=grant.credential_id,
        credential_token=grant.token.reveal_text(),
        retrieval_key=grant.retrieval_key.reveal(),
    )
