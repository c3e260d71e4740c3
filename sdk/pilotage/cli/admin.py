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
      pilotage admin bans
      pilotage admin unban "/O=Grid/CN=pilot 7"
    """


@admin.command("ban")
@click.argument("subject")
@click.option("--why", required=True, help="A sentence for whom it shuts out, and for the audit.")
@connected
def ban(session: Session, *, subject: str, why: str) -> None:
    """Shut a DN out at once, or an FQAN with all its subgroups and roles.

    Every call of theirs is refused, nothing is issued from their credentials any more, and their jobs are held,
    and stopped where they run, within a minute.

    \b
    Example:
      pilotage admin ban "/O=Grid/CN=Mallory" --why "Key stolen; see ticket 17."
    """
    with session.connect() as client:
        client.admin.ban(subject, why)
    say(f"{subject} is banned")


@admin.command("unban")
@click.argument("subject")
@connected
def unban(session: Session, *, subject: str) -> None:
    """Lift every ban of a DN or FQAN, and forget the bad tokens that were counted."""
    with session.connect() as client:
        client.admin.unban(subject)
    say(f"{subject} is not banned any more")


@admin.command("bans")
@FORM
@JSON
@connected
def bans(session: Session, *, form: str, as_json: bool) -> None:
    """List who is banned: by admins, and by the service itself for bad credential tokens."""
    from pilotage.cli.render import emit_json, emit_table, when

    with session.connect() as client:
        found = list(client.admin.bans())
    if as_json or form == "json":
        emit_json(found)
    elif found:
        rows = [
            [one.subject, one.thumbprint[:16] or "any", when(one.ban_time), one.by_dn or "the service", one.why]
            for one in found
        ]
        emit_table(("SUBJECT", "KEY", "SINCE", "BY", "WHY"), rows)
    else:
        say("nobody is banned")


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
