"""`pilotage credential ...`: what the service keeps for you."""

import datetime
from pathlib import Path

import click

from pilotage.cli.session import Group, Session, ask_passphrase, connected, say

FILE = click.Path(dir_okay=False, path_type=Path)
JSON = click.option("--json", "as_json", is_flag=True, help="Same as -o json.")
FORM = click.option(
    "-o", "--format", "form", type=click.Choice(["text", "json"]), default="text", help="Form of the answer."
)


@click.group(cls=Group)
def credential() -> None:
    """Delegate, look at and destroy the credentials that your jobs run with.

    \b
    Examples:
      pilotage credential delegate --hours 48
      pilotage credential list
      pilotage credential log CREDENTIAL        who got a proxy of it
    """


@credential.command("delegate")
@click.option("--hours", type=click.FloatRange(min=0, min_open=True), help="Life; never beyond that of your own proxy.")
@click.option("--name", help="Name, to keep several apart.")
@click.option("--key", type=click.Choice(["rsa", "ec"]), help="Kind of key; every grid tool takes rsa.")
@click.option(
    "--from", "source", type=FILE, metavar="FILE", help="Proxy, certificate or PKCS#12 file to delegate from."
)
@click.option(
    "--from-key", "source_key", type=FILE, metavar="FILE", help="The key of that certificate, if it is apart."
)
@JSON
@connected
def delegate(
    session: Session,
    *,
    hours: float | None,
    name: str | None,
    key: str | None,
    source: Path | None,
    source_key: Path | None,
    as_json: bool,
) -> None:
    """Delegate a credential now; print its id. (`submit` does so by itself when it must.)

    It is made from the identity every command uses, or from the files named: PEM or PKCS#12, with an encrypted key
    if you like; you are asked for the pass phrase. Jobs that are held for want of a credential are released.

    \b
    Examples:
      pilotage credential delegate --hours 48 --name weekend
      pilotage credential delegate --from usercred.p12
    """
    from pilotage.x509.files import load_identity
    from pilotage.x509.keys import KeyKind

    if source_key is not None and source is None:
        raise click.UsageError("--from-key needs --from.")
    identity = load_identity(source, source_key, ask=ask_passphrase) if source is not None else None

    settings = session.config.credential
    kind = settings.key_kind if key is None else (KeyKind.EC_P256 if key == "ec" else KeyKind.RSA_2048)
    with session.connect(identity) as client:
        sealed = client.credentials.delegate(
            datetime.timedelta(hours=settings.hours if hours is None else hours),
            name=settings.name if name is None else name,
            kind=kind,
        )
    if as_json:
        from pilotage.cli.render import emit_json

        emit_json(sealed.credential)
    else:
        click.echo(sealed.credential.credential_id)
        say(f"good until {sealed.credential.expire_time:%Y-%m-%d %H:%M} UTC")


@credential.command("list")
@FORM
@JSON
@connected
def list_credentials(session: Session, *, form: str, as_json: bool) -> None:
    """List your credentials."""
    from pilotage.cli.render import CREDENTIAL_HEADERS, credential_rows, emit_json, emit_table

    with session.connect() as client:
        found = list(client.credentials.list())
    if as_json or form == "json":
        emit_json(found)
    elif found:
        emit_table(CREDENTIAL_HEADERS, credential_rows(found, datetime.datetime.now(datetime.UTC)))
    else:
        say("no credentials")


@credential.command("show")
@click.argument("credential_id", metavar="CREDENTIAL")
@FORM
@JSON
@connected
def show(session: Session, *, credential_id: str, form: str, as_json: bool) -> None:
    """Show one of your credentials."""
    from pilotage.cli.render import credential_state, emit_json, emit_pairs, when

    with session.connect() as client:
        found = client.credentials.find(credential_id)
    if as_json or form == "json":
        emit_json(found)
        return
    emit_pairs(
        [
            ("credential", found.credential_id),
            ("name", found.name),
            ("owner", found.owner_dn),
            ("vo", found.vo),
            *(("fqan", fqan) for fqan in found.fqans),
            ("key", found.key_kind),
            ("state", credential_state(found, datetime.datetime.now(datetime.UTC))),
            ("made", when(found.create_time)),
            ("ends", when(found.expire_time)),
            ("destroyed", when(found.destroy_time)),
            ("revoked", when(found.revoke_time)),
        ]
    )


@credential.command("destroy")
@click.argument("credential_ids", nargs=-1, required=True, metavar="CREDENTIAL...")
@connected
def destroy(session: Session, *, credential_ids: tuple[str, ...]) -> None:
    """Make the service forget credentials at once.

    Nothing more is issued from them; jobs that wait with them are held, and those that run are ended and then
    held, until you delegate anew. Proxies that are out already live on elsewhere until they end by themselves.
    """
    with session.connect() as client:
        found = [client.credentials.id_of(named) for named in credential_ids]
        for credential_id in dict.fromkeys(found):
            client.credentials.destroy(credential_id)
            say(f"{credential_id} is destroyed")


@credential.command("log")
@click.argument("credential_id", metavar="CREDENTIAL")
@FORM
@JSON
@connected
def log(session: Session, *, credential_id: str, form: str, as_json: bool) -> None:
    """Show who got a proxy of a credential, when, for which job. Admins may ask for anybody's, by its id."""
    from pilotage.cli.render import emit_json, emit_table, when

    with session.connect() as client:
        found = list(client.credentials.issuances(client.credentials.id_of(credential_id)))
    if as_json or form == "json":
        emit_json(found)
        return
    rows = [
        [
            when(one.issue_time),
            when(one.expire_time),
            one.job_id,
            str(one.attempt),
            one.lease_id,
            one.pilot_dn,
            one.serial,
            one.peer,
        ]
        for one in found
    ]
    emit_table(("ISSUED", "ENDS", "JOB", "ATTEMPT", "LEASE", "PILOT", "SERIAL", "FROM"), rows)
