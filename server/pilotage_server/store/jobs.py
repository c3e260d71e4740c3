"""Jobs: made, read, and moved by compare-and-set with one event a move."""

import datetime
import sqlite3
from collections.abc import Sequence

import msgspec

from pilotage.errors import refuse
from pilotage.reasons import Reason
from pilotage.states import FINAL, JobState, may_move
from pilotage_server.store import events, queue
from pilotage_server.store.times import from_microseconds, microseconds
from pilotage_server.workload import AttemptResult, Job, JobProxy, JobSpec


class JobRow(msgspec.Struct, frozen=True):
    """What decides about a job; `msgspec.structs.replace` makes the row that a move leads to."""

    job_seq: int
    job_id: str
    owner_id: int
    owner_dn: str
    class_id: int
    state: JobState
    version: int
    attempt: int
    tries: int
    max_attempts: int
    result_attempt: int
    lease_id: str | None
    cancel_requested: bool
    credential_id: str
    credential_expire_us: int
    reason: str
    message: str
    start_us: int | None
    end_us: int | None


class NewJob(msgspec.Struct, frozen=True):
    """A job to be stored."""

    job_id: str
    owner_id: int
    owner_dn: str
    class_id: int
    spec: JobSpec
    rank: int
    credential_id: str
    credential_expire: datetime.datetime
    vo: str
    fqan: str
    wrapped_key: bytes


class Note(msgspec.Struct, frozen=True):
    """Who moves a job, when and why."""

    actor: str
    time: datetime.datetime
    reason: str = ""
    message: str = ""


ROW = """
SELECT job_seq, job_id, owner_id, dn, class_id, state, version, attempt, tries, max_attempts, result_attempt,
       lease_id, cancel_requested, credential_id, credential_expire_us, reason, message, start_us, end_us
FROM job JOIN owner USING (owner_id)
"""
VIEW = """
SELECT job.job_seq, job_id, dn, body, state, job.reason, job.message, job.attempt, cancel_requested, create_us,
       job.start_us, job.end_us, lease.result, job.credential_id, vo, fqan, version,
       held.expire_us, held.renew_us, held.issued, held.error_us, held.reason, held.message
FROM job JOIN owner USING (owner_id) JOIN job_spec ON job_spec.job_seq = job.job_seq
     LEFT JOIN lease ON lease.job_seq = job.job_seq AND lease.attempt = job.result_attempt
     LEFT JOIN lease_credential AS held ON held.lease_id = job.lease_id
"""


# The tuples of a statement hold whatever the columns do; only this module takes them apart.
def _row(found: tuple) -> JobRow:  # type: ignore[type-arg]
    values = list(found)
    values[5] = JobState(values[5])
    values[12] = bool(values[12])
    return JobRow(*values)


def _view(found: tuple) -> tuple[int, Job]:  # type: ignore[type-arg]
    (seq, job_id, dn, body, state, reason, message, attempt, cancel, create, start, end, result, *rest) = found
    credential_id, vo, fqan, version, *proxy = rest
    return seq, Job(
        job_id=job_id,
        owner_dn=dn,
        spec=msgspec.json.decode(body, type=JobSpec),
        state=JobState(state),
        reason=reason,
        message=message,
        attempt=attempt,
        cancel_requested=bool(cancel),
        create_time=from_microseconds(create),
        start_time=None if start is None else from_microseconds(start),
        end_time=None if end is None else from_microseconds(end),
        result=None if result is None else msgspec.json.decode(result, type=AttemptResult),
        credential_id=credential_id,
        vo=vo,
        fqan=fqan,
        version=version,
        proxy=_proxy(*proxy),
    )


def _proxy(
    expire: int | None,
    renew: int | None,
    issued: int | None,
    error: int | None,
    reason: str | None,
    message: str | None,
) -> JobProxy | None:
    if expire is None:
        return None
    return JobProxy(
        expire_time=from_microseconds(expire),
        next_renewal_time=None if renew is None else from_microseconds(renew),
        issued=issued or 0,
        error_time=None if error is None else from_microseconds(error),
        reason=reason or "",
        message=message or "",
    )


def insert(connection: sqlite3.Connection, new: NewJob, note: Note) -> JobRow:
    """Store a job as DEFINED, with its first event."""
    time_us = microseconds(note.time)
    (seq,) = connection.execute(
        "INSERT INTO job (job_id, owner_id, class_id, state, max_attempts, rank, credential_id, credential_expire_us,"
        " vo, fqan, reason, message, create_us) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, '', '', ?) RETURNING job_seq",
        (
            new.job_id,
            new.owner_id,
            new.class_id,
            int(JobState.DEFINED),
            new.spec.max_attempts,
            new.rank,
            new.credential_id,
            microseconds(new.credential_expire),
            new.vo,
            new.fqan,
            time_us,
        ),
    ).fetchone()
    connection.execute("INSERT INTO job_spec (job_seq, body) VALUES (?, ?)", (seq, msgspec.json.encode(new.spec)))
    connection.execute("INSERT INTO job_key (job_seq, wrapped) VALUES (?, ?)", (seq, new.wrapped_key))
    connection.execute("UPDATE owner SET open_jobs = open_jobs + 1 WHERE owner_id = ?", (new.owner_id,))
    events.append(
        connection,
        seq,
        None,
        JobState.DEFINED,
        time_us=time_us,
        attempt=0,
        actor=note.actor,
        reason=note.reason,
        message=note.message,
    )
    return JobRow(
        job_seq=seq,
        job_id=new.job_id,
        owner_id=new.owner_id,
        owner_dn=new.owner_dn,
        class_id=new.class_id,
        state=JobState.DEFINED,
        version=1,
        attempt=0,
        tries=0,
        max_attempts=new.spec.max_attempts,
        result_attempt=0,
        lease_id=None,
        cancel_requested=False,
        credential_id=new.credential_id,
        credential_expire_us=microseconds(new.credential_expire),
        reason="",
        message="",
        start_us=None,
        end_us=None,
    )


def by_seq(connection: sqlite3.Connection, seq: int) -> JobRow:
    """Return a job by its number in this database."""
    return _row(connection.execute(ROW + "WHERE job_seq = ?", (seq,)).fetchone())


def owned(connection: sqlite3.Connection, job_id: str, owner_dns: Sequence[str]) -> JobRow:
    """Return a job of an owner, who may have several DNs. Another's answers JOB_NOT_FOUND, as one that never was."""
    found = connection.execute(ROW + "WHERE job_id = ?", (job_id,)).fetchone()
    if found is None or (row := _row(found)).owner_dn not in owner_dns:
        raise refuse(Reason.JOB_NOT_FOUND)
    return row


def view(connection: sqlite3.Connection, job_id: str, owner_dns: Sequence[str]) -> Job:
    """Return an owner's job for its owner to see, or JOB_NOT_FOUND."""
    found = connection.execute(VIEW + "WHERE job_id = ?", (job_id,)).fetchone()
    if found is None or (job := _view(found)[1]).owner_dn not in owner_dns:
        raise refuse(Reason.JOB_NOT_FOUND)
    return job


def views(
    connection: sqlite3.Connection, owner_dns: Sequence[str], states: Sequence[JobState], before: int | None, limit: int
) -> list[tuple[int, Job]]:
    """Return an owner's jobs with their numbers, newest first, older than the number `before`."""
    wanted = f"AND state IN ({','.join(str(int(state)) for state in states)})" if states else ""
    # Only numbers of an enum go into the text. One owner at a time, so that the index gives the order as well.
    query = f"WHERE job.owner_id = (SELECT owner_id FROM owner WHERE dn = ?) AND job.job_seq < ? {wanted}"  # noqa: S608
    found = [
        _view(row)
        for owner_dn in owner_dns
        for row in connection.execute(
            f"{VIEW} {query} ORDER BY job.job_seq DESC LIMIT ?",
            (owner_dn, 2**63 - 1 if before is None else before, limit),
        )
    ]
    return sorted(found, key=lambda numbered: numbered[0], reverse=True)[:limit]


def spec(connection: sqlite3.Connection, seq: int) -> JobSpec:
    """Return what a job is to run."""
    row = connection.execute("SELECT body FROM job_spec WHERE job_seq = ?", (seq,)).fetchone()
    return msgspec.json.decode(row[0], type=JobSpec)


def wrapped_key(connection: sqlite3.Connection, seq: int) -> bytes | None:
    """Return the wrapped retrieval key; None when the job is final and it is forgotten."""
    row = connection.execute("SELECT wrapped FROM job_key WHERE job_seq = ?", (seq,)).fetchone()
    return None if row is None else bytes(row[0])


def move(connection: sqlite3.Connection, before: JobRow, after: JobRow, note: Note) -> JobRow:
    """Move a job from exactly the state, attempt, lease and version read, and write the event.

    Raises TRANSITION_REFUSED when the table of moves does not have it or the job has changed meanwhile.
    """
    if not may_move(before.state, after.state):
        raise refuse(
            Reason.TRANSITION_REFUSED, f"A job that is {before.state.label} cannot become {after.state.label}."
        )
    time_us = microseconds(note.time)
    after = msgspec.structs.replace(after, version=before.version + 1, end_us=time_us if after.state in FINAL else None)
    changed = connection.execute(
        "UPDATE job SET state = ?, version = ?, attempt = ?, tries = ?, result_attempt = ?, lease_id = ?, reason = ?,"
        " message = ?, start_us = ?, end_us = ?"
        " WHERE job_seq = ? AND state = ? AND version = ? AND attempt = ? AND lease_id IS ?",
        (
            int(after.state),
            after.version,
            after.attempt,
            after.tries,
            after.result_attempt,
            after.lease_id,
            after.reason,
            after.message,
            after.start_us,
            after.end_us,
            before.job_seq,
            int(before.state),
            before.version,
            before.attempt,
            before.lease_id,
        ),
    ).rowcount
    if changed != 1:
        raise refuse(Reason.TRANSITION_REFUSED, "The job has changed meanwhile; look at it and try again.")
    if before.state is JobState.ACTIVATED:
        queue.add(connection, before.class_id, before.owner_id, -1)
    if after.state is JobState.ACTIVATED:
        queue.add(connection, before.class_id, before.owner_id, 1)
    if after.state in FINAL:
        connection.execute("UPDATE owner SET open_jobs = open_jobs - 1 WHERE owner_id = ?", (before.owner_id,))
        connection.execute("DELETE FROM job_key WHERE job_seq = ?", (before.job_seq,))
    events.append(
        connection,
        before.job_seq,
        before.state,
        after.state,
        time_us=time_us,
        attempt=after.attempt,
        actor=note.actor,
        reason=note.reason,
        message=note.message,
    )
    return after


def request_cancel(connection: sqlite3.Connection, row: JobRow) -> None:
    """Note that the owner wants a leased job ended; its pilot hears of it at its next report."""
    connection.execute(
        "UPDATE job SET cancel_requested = 1, version = version + 1 WHERE job_seq = ? AND version = ?",
        (row.job_seq, row.version),
    )


def held_after(connection: sqlite3.Connection, owner_id: int, after: int, limit: int) -> list[JobRow]:
    """Return an owner's held jobs that follow the number `after`, the oldest first."""
    found = connection.execute(
        f"{ROW} WHERE job.owner_id = ? AND state = 4 AND job_seq > ? ORDER BY job_seq LIMIT ?",
        (owner_id, after, limit),
    )
    return [_row(row) for row in found]


def held_for(connection: sqlite3.Connection, reasons: Sequence[str]) -> list[tuple[str, str]]:
    """Return the credentials of jobs that are held for one of these reasons, and their owners' names."""
    return connection.execute(
        "SELECT DISTINCT credential_id, dn FROM job JOIN owner USING (owner_id)"
        " WHERE state = 4 AND reason IN (SELECT value FROM json_each(?))",
        (msgspec.json.encode(reasons).decode(),),
    ).fetchall()


def held_with(
    connection: sqlite3.Connection, credential_id: str, reasons: Sequence[str], after: int, limit: int
) -> list[JobRow]:
    """Return the jobs with a credential that are held for one of these reasons and follow `after`, the oldest first."""
    found = connection.execute(
        f"{ROW} WHERE credential_id = ? AND end_us IS NULL AND state = 4 AND job_seq > ?"  # noqa: S608
        " AND reason IN (SELECT value FROM json_each(?)) ORDER BY job_seq LIMIT ?",
        (credential_id, after, msgspec.json.encode(reasons).decode(), limit),
    )
    return [_row(row) for row in found]


def waiting_with(connection: sqlite3.Connection, credential_id: str, after: int, limit: int) -> list[JobRow]:
    """Return the activated jobs with a credential that follow the number `after`, the oldest first."""
    found = connection.execute(
        f"{ROW} WHERE credential_id = ? AND end_us IS NULL AND state = 3 AND job_seq > ? ORDER BY job_seq LIMIT ?",
        (credential_id, after, limit),
    )
    return [_row(row) for row in found]


def credentials_in_use(connection: sqlite3.Connection) -> list[tuple[str, str]]:
    """Return the credentials that jobs wait for or run with, and their owners' names."""
    return connection.execute(
        "SELECT DISTINCT credential_id, dn FROM job INDEXED BY ix_job_credential JOIN owner USING (owner_id)"
        " WHERE end_us IS NULL AND state <> 4"
    ).fetchall()


def attribute(connection: sqlite3.Connection, seq: int) -> tuple[str, str]:
    """Return the VO and the first attribute a job was submitted with."""
    vo, fqan = connection.execute("SELECT vo, fqan FROM job WHERE job_seq = ?", (seq,)).fetchone()
    return str(vo), str(fqan)


def note(connection: sqlite3.Connection, row: JobRow, said: Note) -> None:
    """Write down something that happened to a job without moving it, for its owner to see."""
    events.append(
        connection,
        row.job_seq,
        row.state,
        row.state,
        time_us=microseconds(said.time),
        attempt=row.attempt,
        actor=said.actor,
        reason=said.reason,
        message=said.message,
    )
    touch(connection, row.job_seq)


def touch(connection: sqlite3.Connection, seq: int) -> None:
    """Count a change that those who watch the job should see."""
    connection.execute("UPDATE job SET version = version + 1 WHERE job_seq = ?", (seq,))


def rebind(
    connection: sqlite3.Connection,
    row: JobRow,
    credential_id: str,
    expire: datetime.datetime,
    wrapped: bytes,
    class_id: int,
) -> JobRow:
    """Give a job that neither waits nor is over another credential, its wrapped key, and the class that follows of it.

    Returns the row that follows. One that waits is counted by its class, so it cannot change it.
    """
    after = msgspec.structs.replace(
        row,
        credential_id=credential_id,
        credential_expire_us=microseconds(expire),
        class_id=class_id,
        version=row.version + 1,
    )
    changed = connection.execute(
        "UPDATE job SET credential_id = ?, credential_expire_us = ?, class_id = ?, version = ?"
        " WHERE job_seq = ? AND version = ? AND state <> 3",
        (credential_id, after.credential_expire_us, class_id, after.version, row.job_seq, row.version),
    ).rowcount
    if changed != 1:
        raise refuse(Reason.TRANSITION_REFUSED, "The job has changed meanwhile; look at it and try again.")
    connection.execute("UPDATE job_key SET wrapped = ? WHERE job_seq = ?", (wrapped, row.job_seq))
    return after
