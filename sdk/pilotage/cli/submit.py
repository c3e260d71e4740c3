"""`pilotage submit`."""

import datetime
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pilotage.cli.session import Session, connected, say
from pilotage.cli.units import parse_size, parse_span, size, span, variable
from pilotage.cli.waiting import wait_for
from pilotage.errors import refuse
from pilotage.reasons import Reason

if TYPE_CHECKING:
    from pilotage.config import SubmitSection
    from pilotage.jobs import JobSpec

EXISTING = click.Path(exists=True, path_type=Path)


@click.command(context_settings={"allow_interspersed_args": False})
@click.option("--name", default="", help="Name, for people.")
@click.option(
    "-n",
    "--count",
    type=click.IntRange(1, 1000),
    default=1,
    help="Submit N jobs; each gets JOB_INDEX (from 0) and JOB_COUNT.",
)
@click.option("-c", "--cores", type=click.IntRange(1), help="Cores.")
@click.option("--mem", "memory", type=size, metavar="SIZE", help="Memory: 4G, 500M; a bare number is megabytes.")
@click.option("--disk", type=size, metavar="SIZE", help="Disk space, as --mem.")
@click.option(
    "-t",
    "--time",
    "wall",
    type=span,
    metavar="TIME",
    help="Wall time: 90s, 30m, 2h, 1:30:00; a bare number is minutes.",
)
@click.option("--site", help="Run there and nowhere else.")
@click.option("--tag", "tags", multiple=True, help="Tag that the pilot must offer; may be repeated.")
@click.option(
    "--fqan",
    "fqans",
    multiple=True,
    metavar="FQAN",
    help="VOMS attribute that the site is to add, as /vo/Role=role, the primary one first; may be repeated.",
)
@click.option(
    "--env",
    "variables",
    type=variable,
    multiple=True,
    metavar="NAME=VALUE",
    help="Environment variable; may be repeated.",
)
@click.option(
    "--input",
    "inputs",
    type=EXISTING,
    multiple=True,
    metavar="PATH",
    help="File or folder to take along; may be repeated.",
)
@click.option(
    "--output", "outputs", multiple=True, metavar="GLOB", help="File or pattern to bring back; may be repeated."
)
@click.option(
    "--sandbox",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="DIR",
    help="Folder whose content is taken along.",
)
@click.option("--priority", type=int, default=0, help="Among your own jobs, higher goes first.")
@click.option("--attempts", type=click.IntRange(1), help="How often to try when the site fails the job.")
@click.option("--credential", "credential_name", help="Name of the credential to use.")
@click.option(
    "--as",
    "credential_owner",
    default="",
    metavar="DN",
    help="Run as this DN, linked to yours.",
)
@click.option(
    "--hold",
    is_flag=True,
    help="Where no credential lives long enough, have the jobs held until one does.",
)
@click.option("--wait", "waits", is_flag=True, help="Wait until the jobs are over; exit as `pilotage wait` does.")
@click.option("-o", "--format", "form", type=click.Choice(["ids", "json"]), default="ids", help="Form of the answer.")
@click.option("--json", "as_json", is_flag=True, help="Same as -o json.")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@connected
def submit(
    session: Session,
    *,
    name: str,
    count: int,
    cores: int | None,
    memory: int | None,
    disk: int | None,
    wall: float | None,
    site: str | None,
    tags: tuple[str, ...],
    fqans: tuple[str, ...],
    variables: tuple[tuple[str, str], ...],
    inputs: tuple[Path, ...],
    outputs: tuple[str, ...],
    sandbox: Path | None,
    priority: int,
    attempts: int | None,
    credential_name: str | None,
    credential_owner: str,
    hold: bool,
    waits: bool,
    form: str,
    as_json: bool,
    command: tuple[str, ...],
) -> None:
    """Submit COMMAND; print the job's id, alone, on stdout.

    \b
    Examples:
      pilotage submit -- ./analyse.py                      the program is taken along
      pilotage submit --input data.csv --output '*.svg' -- ./analyse.py data.csv
      pilotage submit --sandbox project --time 2h --mem 4G -c 4 -- make all
      pilotage submit -n 10 -- ./simulate.sh               reads $JOB_INDEX
      pilotage submit --wait -- /usr/bin/id

    COMMAND is run without a shell. A program with a slash in a relative name comes from the
    sandbox. Inputs below the current folder keep their relative names.
    """
    from pilotage.jobs import JobSpec

    defaults = session.config.submit
    spec = JobSpec(
        command=command,
        name=name,
        environment=dict(variables),
        outputs=outputs,
        cores=cores or defaults.cores,
        memory_bytes=memory if memory is not None else _default(defaults, "memory"),
        disk_bytes=disk or 0,
        wall_seconds=wall if wall is not None else _default(defaults, "time"),
        site=site if site is not None else defaults.site,
        tags=tags or defaults.tags,
        priority=priority,
        max_attempts=attempts or 0,
        fqans=fqans,
    )
    members = _members(command, inputs, sandbox)
    settings = session.config.credential
    with session.connect() as client:
        job_ids = client.submit(
            _copies(spec, count),
            members=members,
            credential_name=settings.name if credential_name is None else credential_name,
            credential_owner=credential_owner,
            credential_lifetime=datetime.timedelta(hours=settings.hours),
            credential_key=settings.key_kind,
            hold=hold,
        )
        try:
            _tell(job_ids, as_json=as_json or form == "json")
        except OSError:
            # The jobs are there all the same; whoever submits them again has them twice.
            say(f"submitted: {' '.join(job_ids)}")
            raise
        if waits:
            sys.stdout.flush()
            wait_for(client, job_ids, None)


def _tell(job_ids: Sequence[str], *, as_json: bool) -> None:
    if as_json:
        from pilotage.cli.render import emit_json

        emit_json({"job_ids": list(job_ids)})
    else:
        click.echo("\n".join(job_ids))


def _default(defaults: "SubmitSection", name: str) -> int:
    """Read a size or a time of the configuration, which is written as on the command line."""
    text = defaults.memory if name == "memory" else defaults.time
    if not text:
        return 0
    try:
        return parse_size(text) if name == "memory" else round(parse_span(text))
    except ValueError as error:
        raise refuse(Reason.CONFIG_INVALID, f"$.submit.{name}: {error}.") from error


def _copies(spec: "JobSpec", count: int) -> "Sequence[JobSpec]":
    import msgspec

    if count == 1:
        return [spec]
    return [
        msgspec.structs.replace(
            spec, environment={**spec.environment, "JOB_INDEX": str(index), "JOB_COUNT": str(count)}
        )
        for index in range(count)
    ]


def _members(command: tuple[str, ...], inputs: tuple[Path, ...], sandbox: Path | None) -> dict[str, Path]:
    """Return what goes into the sandbox, the program itself included when it is a local file."""
    from pilotage.sandbox import gather

    here = Path.cwd()
    members = gather([sandbox], sandbox) if sandbox is not None else {}
    for taken, path in gather(inputs, here).items():
        if taken in members and not path.samefile(members[taken]):
            raise refuse(Reason.INVALID_ARGUMENT, f"{path} and {members[taken]} would both be {taken} in the sandbox.")
        members[taken] = path
    program = command[0]
    if "/" not in program and Path(program).is_file():
        say(f"{program} is looked for on the worker node; the file here would be ./{program}")
    if "/" not in program or program.startswith("/"):
        return members
    inside = program.removeprefix("./")
    if inside not in members:
        if not Path(program).is_file():
            raise click.UsageError(f"{program} is neither in the sandbox nor a file here; take it along with --input.")
        members.update(gather([Path(program)], here))
        if inside not in members:
            raise click.UsageError(f"{program} lies outside the current folder; name it as it is in the sandbox.")
    return members
