"""`pilotage doctor`."""

import datetime
import os

import click

from pilotage.cli.session import Session, ask_passphrase, connected, one_line
from pilotage.errors import PilotageError

SICK = 1


@click.command()
@click.option("-o", "--format", "form", type=click.Choice(["text", "json"]), default="text", help="Form of the answer.")
@click.option("--json", "as_json", is_flag=True, help="Same as -o json.")
@connected
def doctor(session: Session, *, form: str, as_json: bool) -> None:
    """Look at everything a job would need; say what is wrong and what to type next.

    Authorities, your proxy or certificate and its attributes, the server and what it makes of you, the credentials
    stored there and the keys to them kept here. Nothing is changed. Exits with 1 if there is an error.

    \b
    Examples:
      pilotage doctor
      pilotage doctor --json | jq '.findings[] | select(.level == "error") | .next'
    """
    from pilotage.cli.render import emit_json
    from pilotage.doctor import Finding, Level, Patient, examine
    from pilotage.doctor.findings import error

    as_json = as_json or form == "json"
    findings: list[Finding] = []

    def tell(finding: Finding) -> None:
        findings.append(finding)
        if as_json:
            return
        level = finding.level.value.ljust(8)
        click.echo(f"{level}{finding.subject.ljust(15)}{one_line(finding.name)}: {one_line(finding.text)}")
        if finding.next:
            click.echo(f"{' ' * 8}next: {one_line(finding.next)}")

    try:
        config = session.config
    except PilotageError as refusal:
        tell(error("configuration", "", refusal.message, "correct it, and try again"))
    else:
        patient = Patient(
            environ=os.environ,
            uid=os.geteuid(),
            ca_dir=session.ca_dir,
            server=session.server or config.server,
            audience=config.audience,
            ask=ask_passphrase,
        )
        for finding in examine(patient, datetime.datetime.now(datetime.UTC)):
            tell(finding)
    counts = {level.value: sum(finding.level is level for finding in findings) for level in Level}
    if as_json:
        emit_json({"findings": findings, "errors": counts["error"], "warnings": counts["warning"]})
    else:
        click.echo(f"{counts['error']} errors, {counts['warning']} warnings", err=True)
    if counts["error"]:
        click.get_current_context().exit(SICK)
