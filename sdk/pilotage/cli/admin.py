"""`pilotage admin ...`: for the people who run the service."""

import itertools

import click

from pilotage.cli.session import Group, Session, connected, say

FORM = click.option(
    "-o", "--format", "form", type=click.Choice(["text", "json"]), default="text", help="Form of the answer."
)
JSON = click.option("--json", "as_json", is_flag=True, help="Same as -o json.")


@click.group(cls=Group)
def admin() -> None:
    """Look after the service; you need its role admin.

    \b
    Examples:
      pilotage admin audit --limit 20
      pilotage admin audit --credential CREDENTIAL
    """


@admin.command("audit")
@click.option("--dn", default="", help="Only what this DN did or was refused.")
@click.option("--credential", "credential_id", default="", help="Only what concerns this credential.")
@click.option("--job", "job_id", default="", help="Only what concerns this job.")
@click.option("--act", default="", help='Only this act, for instance "retrieval refused".')
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="How many, from the newest.")
@FORM
@JSON
@connected
def audit(
    session: Session,
    *,
    dn: str,
    credential_id: str,
    job_id: str,
    act: str,
    limit: int,
    form: str,
    as_json: bool,
) -> None:
    """Show what was done with credentials and what was refused, newest first.

    \b
    Example:
      pilotage admin audit --act "retrieval refused" --limit 10
    """
    from pilotage.cli.render import emit_json, emit_table, when

    with session.connect() as client:
        entries = client.admin.audit(actor_dn=dn, credential_id=credential_id, job_id=job_id, act=act)
        found = list(itertools.islice(entries, limit))
    if as_json or form == "json":
        emit_json(found)
    elif found:
        rows = [
            [str(one.sequence), when(one.act_time), one.act, one.reason, one.actor_dn, one.credential_id, one.job_id]
            for one in found
        ]
        emit_table(("ROW", "TIME", "ACT", "REASON", "BY", "CREDENTIAL", "JOB"), rows)
    else:
        say("nothing")
