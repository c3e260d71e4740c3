"""Turn a match into a lease: the move, the fence, the token and the key, in one transaction."""

import datetime
import sqlite3

from pilotage.errors import PilotageError, refuse
from pilotage.reasons import Reason
from pilotage.secret import Secret
from pilotage.states import JobState
from pilotage_server.jobs import broker
from pilotage_server.jobs.broker import Broker
from pilotage_server.jobs.credential_facts import too_short
from pilotage_server.jobs.ids import NewId
from pilotage_server.jobs.limits import JobLimits, LeaseTimes
from pilotage_server.jobs.moves import Moves
from pilotage_server.jobs.outcomes import Verdict
from pilotage_server.jobs.wrapping import KeyWrap
from pilotage_server.retrieval import Admitted
from pilotage_server.store import jobs, leases, owners
from pilotage_server.store.jobs import JobRow
from pilotage_server.store.pilots import PilotRow
from pilotage_server.store.times import from_microseconds
from pilotage_server.tokens import CredentialClaims, TokenKeys
from pilotage_server.workload import Grant, Requirements


class Dispatch:
    """Lease the best jobs to a pilot."""

    def __init__(
        self,
        matcher: Broker,
        wrapping: KeyWrap,
        token_keys: TokenKeys,
        limits: JobLimits,
        times: LeaseTimes,
        make_id: NewId,
    ) -> None:
        self._broker = matcher
        self._wrapping = wrapping
        self._token_keys = token_keys
        self._limits = limits
        self._times = times
        self._new_id = make_id

    def lease(self, moves: Moves, pilot: PilotRow, wall_left: float, most: int, admitted: Admitted) -> list[Grant]:
        """Lease up to `most` jobs; one whose credential does not serve any more is held instead.

        `admitted` says of which VOs the pilot gets credentials.
        """
        grants: list[Grant] = []
        while len(grants) < most:
            seq = self._broker.choose(moves.connection, pilot.offer, wall_left, admitted)
            if seq is None:
                break
            row = jobs.by_seq(moves.connection, seq)
            try:
                grants.append(self._grant(moves, row, pilot))
            except PilotageError as error:
                moves.move(row, JobState.HELD, Verdict(JobState.HELD, error.reason.name, error.message))
        return grants

    def _grant(self, moves: Moves, row: JobRow, pilot: PilotRow) -> Grant:
        needs = self._broker.requirements(moves.connection, row.class_id)
        self._check_life(row, needs, moves.now)
        key = self.retrieval_key(moves.connection, row)
        lease_id = self._new_id()
        expire = moves.now + datetime.timedelta(seconds=self._times.sent_seconds)
        charged = float(needs.cores * needs.wall_seconds)
        sent = moves.move(row, JobState.SENT, lease_id=lease_id, attempt=row.attempt + 1)
        leases.insert(
            moves.connection,
            lease_id=lease_id,
            job_seq=sent.job_seq,
            attempt=sent.attempt,
            pilot_id=pilot.pilot_id,
            credential_id=row.credential_id,
            charged=charged,
            now=moves.now,
            expire=expire,
        )
        score = owners.score(moves.connection, row.owner_id)
        owners.set_score(moves.connection, row.owner_id, broker.charge(score, charged, moves.now))
        return Grant(
            lease_id=lease_id,
            job_id=sent.job_id,
            attempt=sent.attempt,
            owner_dn=sent.owner_dn,
            spec=jobs.spec(moves.connection, sent.job_seq),
            expire_time=expire,
            credential_id=sent.credential_id,
            token=self.token(sent, lease_id, pilot, moves.now),
            retrieval_key=key,
        )

    def _check_life(self, row: JobRow, needs: Requirements, now: datetime.datetime) -> None:
        """Refuse to start a job that its credential would not outlive."""
        error = too_short(from_microseconds(row.credential_expire_us), needs.wall_seconds, self._limits, now)
        if error is not None:
            raise error

    def retrieval_key(self, connection: sqlite3.Connection, row: JobRow) -> Secret:
        """Return the key that unseals the job's credential."""
        wrapped = jobs.wrapped_key(connection, row.job_seq)
        if wrapped is None:
            raise refuse(Reason.JOB_FINAL)
        return self._wrapping.unwrap(wrapped, job_id=row.job_id, owner_dn=row.owner_dn, credential_id=row.credential_id)

    def token(self, row: JobRow, lease_id: str, pilot: PilotRow, now: datetime.datetime) -> Secret:
        """Sign the token that lets this pilot retrieve this credential once, for this lease."""
        claims = CredentialClaims(
            jti=self._new_id(),
            lease_id=lease_id,
            job_id=row.job_id,
            attempt=row.attempt,
            owner_dn=row.owner_dn,
            credential_id=row.credential_id,
            pilot_dn=pilot.dn,
            pilot_thumbprint=pilot.thumbprint.hex(),
        )
        return self._token_keys.sign(claims, now)
