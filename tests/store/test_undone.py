"""What a failed commit undid has not happened: no line of the log tells of it, and no metric counts it."""

import asyncio
import io
import sqlite3
from collections.abc import Coroutine

import pytest

from pilotage.errors import refuse
from pilotage.reasons import Reason
from pilotage.states import JobState
from pilotage_server import logs, metrics
from support.desks import ALICE, Desks, spec

pytestmark = pytest.mark.asyncio


def break_commit(connection: sqlite3.Connection) -> None:
    """Have the whole transaction fail at its end: a row that refers to none."""
    connection.execute("PRAGMA defer_foreign_keys = ON")
    connection.execute("INSERT INTO job_key (job_seq, wrapped) VALUES (999999, x'00')")


async def undone(desks: Desks, work: Coroutine[object, object, object]) -> None:
    """Run something in one transaction with what breaks it."""
    found = await asyncio.gather(work, desks.database.write(break_commit), return_exceptions=True)
    assert all(isinstance(error, Exception) for error in found), found


def count(name: str, **labels: str) -> float:
    return sum(
        sample.value
        for metric in metrics.ALL
        for family in metric.collect()
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


async def test_a_failed_renewal_is_told_after_the_commit_and_not_without(desks: Desks) -> None:
    out = io.StringIO()
    logs.configure("json", out=out)
    await desks.submit(ALICE, spec())
    (grant,) = await desks.take(await desks.register(renews=True))
    await desks.issue(grant.lease_id)
    labels = {"told_by": "server", "reason": "CREDENTIAL_TOO_SHORT"}
    before = count("pilotage_renewals_failed_total", **labels)
    error = refuse(Reason.CREDENTIAL_TOO_SHORT)
    await undone(desks, desks.proxies.renewal_failed(grant.lease_id, error))
    proxy = (await desks.job(grant.job_id)).proxy
    assert proxy is not None
    assert proxy.reason == ""
    assert "proxy renewal failed" not in out.getvalue()
    assert count("pilotage_renewals_failed_total", **labels) == before
    await desks.proxies.renewal_failed(grant.lease_id, error)
    assert out.getvalue().count("proxy renewal failed") == 1
    assert count("pilotage_renewals_failed_total", **labels) == before + 1


async def test_a_lost_lease_is_told_after_the_commit_and_not_without(desks: Desks) -> None:
    out = io.StringIO()
    logs.configure("json", out=out)
    await desks.submit(ALICE, spec())
    (grant,) = await desks.take(await desks.register())
    desks.turn(desks.times.sent_seconds + 1)
    before = count("pilotage_attempts_ended_total", outcome="lost")
    await undone(desks, desks.pilots.sweep())
    assert (await desks.job(grant.job_id)).state is JobState.SENT
    assert "lease lost" not in out.getvalue()
    assert count("pilotage_attempts_ended_total", outcome="lost") == before
    assert await desks.pilots.sweep() == 1
    assert out.getvalue().count("lease lost") == 1
    assert count("pilotage_attempts_ended_total", outcome="lost") == before + 1
