"""The commands `pilotage-helper accounting ...`."""

import os
import sys
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path

import click

from pilotage.errors import PilotageError, refuse
from pilotage.reasons import Reason
from pilotage_helper.accounting import apel, queue
from pilotage_helper.accounting.reader import Reader
from pilotage_helper.accounting.record import Record
from pilotage_helper.accounting.tables import csv_lines, json_lines
from pilotage_helper.accounting.whole import whole_file
from pilotage_helper.moment import Moment

FILE = click.Path(path_type=Path)


class Benchmark(click.ParamType[tuple[str, float]]):
    """TYPE:VALUE of APEL's ServiceLevel."""

    name = "type:value"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, float]:
        """Return the type in APEL's spelling and the value."""
        try:
            return apel.benchmark(value)
        except ValueError as error:
            self.fail(f"{value!r}: {error}", param, ctx)


@click.group()
def accounting() -> None:
    """Make accounting records of the helper's audit files."""


@accounting.command()
@click.option("--format", "form", type=click.Choice(["csv", "apel", "jsonl"]), required=True, help="What to write.")
@click.option(
    "--since", type=Moment(), help="Only payloads that ended at this time or later: ISO 8601 or Unix seconds."
)
@click.option("--until", type=Moment(), help="Only payloads that ended before this time.")
@click.option("--site", help="The site's name in GOCDB (apel, required).")
@click.option(
    "--benchmark", type=Benchmark(), help="Si2k, HEPSPEC or HEPscore23 of one core, as TYPE:VALUE (apel, required)."
)
@click.option("--node", help="The machine that the files are from; by default this one (apel).")
@click.option(
    "--processors", type=click.IntRange(1, 65535), help="Cores of a payload; by default its CPU bound, or 1 (apel)."
)
@click.option("--unfinished", is_flag=True, help="Also the runs that have no END (csv, jsonl).")
@click.option("--output", type=FILE, help="A file; for apel the directory queue of SSM. By default standard output.")
@click.option("--quiet", is_flag=True, help="No summary on standard error when all lines could be read.")
@click.argument("files", metavar="AUDIT_FILE...", type=FILE, nargs=-1, required=True)
def export(
    *,
    form: str,
    since: datetime | None,
    until: datetime | None,
    site: str | None,
    benchmark: tuple[str, float] | None,
    node: str | None,
    processors: int | None,
    unfinished: bool,
    output: Path | None,
    quiet: bool,
    files: tuple[Path, ...],
) -> None:
    """Write a record for each payload that ended in a period.

    AUDIT_FILEs are those of one node: the living one and rotated ones, plain or gzip, in any order. The same period
    gives the same records each time.
    """
    try:
        reader = Reader(files)
        records = _within(reader, since, until, unfinished=unfinished and form != "apel")
        if form == "apel":
            if site is None or benchmark is None or output is None:
                raise click.UsageError("--format apel needs --site, --benchmark and --output")
            _send(records, apel.Place(site, node or os.uname().nodename, benchmark, processors), output)
        else:
            _write(csv_lines(records) if form == "csv" else json_lines(records), output)
    except PilotageError as error:
        click.echo(f"pilotage-helper: refused: {error.reason.name} ({error.reason.value}): {error.message}", err=True)
        sys.exit(error.exit_code)
    _summarise(reader, quiet=quiet)


def _within(reader: Reader, since: datetime | None, until: datetime | None, *, unfinished: bool) -> Iterator[Record]:
    for record in reader.records():
        if record.end and (since is None or record.end >= since) and (until is None or record.end < until):
            yield record
    if unfinished:
        yield from (record for record in reader.unfinished() if until is None or record.start < until)


def _send(records: Iterable[Record], place: apel.Place, output: Path) -> None:
    if not output.is_dir():
        raise refuse(Reason.EXPORT_FAILED, f"{output} is no directory; make it for SSM first")
    for message in apel.messages(records, place):
        queue.add(output, message)


def _write(lines: Iterable[bytes], output: Path | None) -> None:
    if output is not None:
        with whole_file(output) as file:
            file.writelines(lines)
        return
    stream = sys.stdout.buffer
    try:
        stream.writelines(lines)
        stream.flush()
    except OSError as error:
        # Nothing more can be said there, neither at the interpreter's end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise refuse(Reason.EXPORT_FAILED, f"standard output: {error.strerror}") from error


def _summarise(reader: Reader, *, quiet: bool) -> None:
    tally = reader.tally
    for place in tally.broken:
        click.echo(f"pilotage-helper: {place}", err=True)
    if quiet and not tally.unreadable:
        return
    waiting = sum(1 for _ in reader.unfinished())
    click.echo(
        f"pilotage-helper: {tally.lines} lines, {tally.records} runs ended, {waiting} without an END, "
        f"{tally.duplicates} repeated lines, {tally.unreadable} unreadable",
        err=True,
    )
