"""`pilotage link ...`: several certificate names of one person."""

import click

from pilotage.cli.session import Group, Session, connected, say


@click.group(cls=Group)
def link() -> None:
    """Link the DNs that are yours, so that each sees the jobs and credentials of the other.

    Each has to say so itself, with its own proxy and within a day. Links are pairs: with three DNs, link each two.

    \b
    Examples:
      X509_USER_PROXY=old.proxy pilotage link add "/O=New Grid/CN=Alice"
      X509_USER_PROXY=new.proxy pilotage link add "/O=Old Grid/CN=Alice"
      pilotage link list
    """


@link.command("add")
@click.argument("dn")
@connected
def add(session: Session, *, dn: str) -> None:
    """Say that another DN is you, too; do the same with a proxy of that DN."""
    with session.connect() as client:
        linked = client.credentials.link(dn)
        mine = client.whoami().dn
    if linked:
        say(f"{mine} and {dn} are linked")
    else:
        say(f'asked; now, within a day and with a proxy of {dn}: pilotage link add "{mine}"')


@link.command("remove")
@click.argument("dn")
@connected
def remove(session: Session, *, dn: str) -> None:
    """End a link at once, or take back that you asked for it."""
    with session.connect() as client:
        client.credentials.unlink(dn)
    say(f"{dn} is not linked any more")


@link.command("list")
@click.option("-o", "--format", "form", type=click.Choice(["text", "json"]), default="text", help="Form of the answer.")
@click.option("--json", "as_json", is_flag=True, help="Same as -o json.")
@connected
def list_links(session: Session, *, form: str, as_json: bool) -> None:
    """Show what you said of other DNs, and they of you."""
    from pilotage.cli.render import emit_json, emit_table, when

    with session.connect() as client:
        found = client.credentials.links()
    if as_json or form == "json":
        emit_json(list(found))
    elif found:
        rows = [[one.dn, one.other_dn, when(one.ask_time), when(one.link_time) or "not yet"] for one in found]
        emit_table(("DN", "SAYS IT IS ALSO", "SINCE", "LINKED"), rows)
    else:
        say("no links")
