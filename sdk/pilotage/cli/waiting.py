"""Waiting for jobs, as `wait` and `submit --wait` do."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from pilotage.cli.session import say

if TYPE_CHECKING:
    from pilotage.client import Client
    from pilotage.jobs import Job

NOT_ALL_SUCCEEDED = 6


def wait_for(client: "Client", job_ids: Sequence[str], timeout: float | None, *, quiet: bool = False) -> "list[Job]":
    """Wait and tell each change of state; exit with 6 unless all jobs succeeded."""
    newest: dict[str, Job] = {}
    for job in client.watch(job_ids, timeout=timeout):
        before = newest.get(job.job_id)
        newest[job.job_id] = job
        if not quiet and (before is None or before.state is not job.state):
            why = f": {job.reason} {job.message}" if job.reason else ""
            say(f"{job.job_id} is {job.state.label}{why}")
    jobs = [newest[job_id] for job_id in dict.fromkeys(job_ids) if job_id in newest]
    succeeded = sum(job.succeeded for job in jobs)
    wanted = len(dict.fromkeys(job_ids))
    if succeeded < wanted:
        unfinished = wanted - sum(job.final for job in jobs)
        going_on = f"; {unfinished} still go on after {timeout:g} s" if unfinished and timeout is not None else ""
        say(f"{wanted - succeeded} of {wanted} jobs did not succeed{going_on}")
        click.get_current_context().exit(NOT_ALL_SUCCEEDED)
    return jobs
