"""The commands that look at jobs and deal with them."""

import itertools
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pilotage.cli.session import Session, connected, say
from pilotage.cli.units import timeout as timeout_option
from pilotage.cli.waiting import wait_for
from pilotage.reasons import Reason
from pilotage.states import FINAL, JobState

if TYPE_CHECKING:
    from pilotage.jobs import Job

STATES = [state.label for state in JobState]
JSON = click.option("--json", "as_json", is_flag=True, help="Same as -o json.")
FORM = click.option(
    "-o", "--format", "form", type=click.Choice(["table", "json", "ids"]), default="table", help="Form of the answer."
)
TEXT_FORM = click.option(
    "-o", "--format", "form", type=click.Choice(["text", "json"]), default="text", help="Form of the answer."
)


@click.command()
@click.option(
    "--state", "states", type=click.Choice([*STATES, "open"]), multiple=True, help="Only these; `open`: not over yet."
)
@click.option(
    "-l", "--limit", type=click.IntRange(1), default=50, show_default=True, help="At most so many, newest first."
)
@FORM
@JSON
@connected
def ls(session: Session, *, states: tuple[str, ...], limit: int, form: str, as_json: bool) -> None:
    """List your jobs, newest first.

    \b
    Examples:
      pilotage ls --state open
      pilotage cancel $(pilotage ls --state activated -o ids)
    """
    from pilotage.cli.render import JOB_HEADERS, emit_json, emit_table, job_rows

    wanted: list[JobState] = []
    for name in states:
        wanted += [s for s in JobState if s not in FINAL] if name == "open" else [JobState[name.upper()]]
    with session.connect() as client:
        jobs = list(itertools.islice(client.list(tuple(dict.fromkeys(wanted))), limit))
    if as_json or form == "json":
        emit_json(jobs)
    elif form == "ids":
        for job in jobs:
            click.echo(job.job_id)
    elif jobs:
        emit_table(JOB_HEADERS, job_rows(jobs))
    else:
        say("no jobs")


@click.command()
@click.argument("job_ids", nargs=-1, required=True, metavar="JOB...")
@TEXT_FORM
@JSON
@connected
def show(session: Session, *, job_ids: tuple[str, ...], form: str, as_json: bool) -> None:
    """Show everything about jobs: state, identity, account, usage, result.

    \b
    Examples:
      pilotage show JOB
      pilotage show JOB -o json | jq .result.account
    """
    from pilotage.cli.render import emit_json, emit_pairs, job_pairs

    with session.connect() as client:
        jobs = [client.get(job_id) for job_id in job_ids]
    if as_json or form == "json":
        emit_json(jobs[0] if len(jobs) == 1 else jobs)
        return
    for number, job in enumerate(jobs):
        if number:
            click.echo()
        emit_pairs(job_pairs(job))


@click.command()
@click.argument("job_ids", nargs=-1, required=True, metavar="JOB...")
@click.option(
    "--timeout",
    type=timeout_option,
    metavar="TIME",
    help="Give up after so long: 90, 30m, 2h; a bare number is seconds.",
)
@click.option("-q", "--quiet", is_flag=True, help="Say nothing while waiting.")
@JSON
@connected
def wait(session: Session, *, job_ids: tuple[str, ...], timeout: float | None, quiet: bool, as_json: bool) -> None:
    """Wait until jobs are over; exit with 6 unless all succeeded.

    \b
    Example:
      pilotage wait JOB --timeout 30m && pilotage fetch JOB
    """
    with session.connect() as client:
        jobs = wait_for(client, job_ids, timeout, quiet=quiet)
    if as_json:
        from pilotage.cli.render import emit_json

        emit_json(jobs)


@click.command()
@click.argument("job_id", metavar="JOB")
@click.option("-f", "--follow", is_flag=True, help="Go on until the job is over.")
@click.option("--stderr", "standard_error", is_flag=True, help="Standard error instead of standard output.")
@click.option("--attempt", type=click.IntRange(1), help="Of this attempt; else of the newest.")
@connected
def logs(session: Session, *, job_id: str, follow: bool, standard_error: bool, attempt: int | None) -> None:
    """Print what a job wrote to its standard output.

    \b
    Example:
      pilotage logs -f JOB
    """
    from pilotage.jobs import LogStream

    out = sys.stdout.buffer
    cut, empty = False, True
    with session.connect() as client:
        stream = LogStream.STDERR if standard_error else LogStream.STDOUT
        for chunk in client.logs(job_id, stream, follow=follow, attempt=attempt or 0):
            out.write(chunk.data)
            out.flush()
            cut = cut or chunk.truncated
            empty = False
        if empty:
            say(_why_empty(client.get(job_id), attempt or 0))
    if cut:
        say("the log goes on, but the pilot kept no more of it")


def _why_empty(job: "Job", attempt: int) -> str:
    if attempt > job.attempt:
        return f"there was no attempt {attempt}: the job has had {job.attempt}"
    return f"{'it printed nothing' if job.final else 'nothing yet'}: the job is {job.state.label}"


@click.command()
@click.argument("job_id", metavar="JOB")
@click.option(
    "-o",
    "--to",
    "directory",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(),
    metavar="DIR",
    help="Folder to put them in; made if need be.",
)
@click.option("--overwrite", is_flag=True, help="Replace files that are there already.")
@JSON
@connected
def fetch(session: Session, *, job_id: str, directory: Path, overwrite: bool, as_json: bool) -> None:
    """Bring a job's outputs here; print their paths.

    \b
    Example:
      pilotage fetch JOB --to results
    """
    with session.connect() as client:
        paths = [str(path) for path in client.fetch(job_id, directory, overwrite=overwrite)]
    if as_json:
        from pilotage.cli.render import emit_json

        emit_json(paths)
    else:
        for path in paths:
            click.echo(path)


@click.command()
@click.argument("job_ids", nargs=-1, required=True, metavar="JOB...")
@JSON
@connected
def cancel(session: Session, *, job_ids: tuple[str, ...], as_json: bool) -> None:
    """Cancel jobs; one that runs is killed at its pilot's next report.

    \b
    Example:
      pilotage cancel JOB
    """
    with session.connect() as client:
        results = client.cancel(job_ids)
    if as_json:
        from pilotage.cli.render import emit_json

        emit_json(results)
    failed = [result for result in results if result.reason]
    for result in failed:
        say(f"{result.reason}: {result.id}: {result.message}")
    if failed:
        reason = Reason.__members__.get(failed[0].reason)
        click.get_current_context().exit(reason.row.exit_code if reason is not None else 1)


@click.command()
@click.argument("job_id", metavar="JOB")
@TEXT_FORM
@JSON
@connected
def events(session: Session, *, job_id: str, form: str, as_json: bool) -> None:
    """Show the life of a job, oldest first.

    \b
    Example:
      pilotage events JOB
    """
    from pilotage.cli.render import EVENT_HEADERS, emit_json, emit_table, event_rows

    with session.connect() as client:
        found = list(client.events(job_id))
    if as_json or form == "json":
        emit_json(found)
    else:
        emit_table(EVENT_HEADERS, event_rows(found))
