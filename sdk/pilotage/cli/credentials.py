"""`pilotage credential ...`: what the service keeps for you."""

import datetime
import os
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from pilotage.cli.session import Group, Session, ask_passphrase, ask_secret, connected, say
from pilotage.cli.units import hours as hours_option
from pilotage.errors import PilotageError

if TYPE_CHECKING:
    from pilotage.delegation import Sealed

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
      pilotage credential import --from-myproxy HOST
    """


@credential.command("delegate")
@click.option("--hours", type=hours_option, metavar="H", help="Life; never beyond that of your own proxy.")
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
            shorten=hours is None,
        )
    _tell_new(sealed, as_json=as_json)


@credential.command("import")
@click.option("--from-myproxy", "source", required=True, metavar="HOST[:PORT]", help="The MyProxy server.")
@click.option("--username", "-l", metavar="U", help="Your user name there; by default the one here.")
@click.option("--name", "-k", default="", metavar="K", help="Which of your credentials there, if it has a name.")
@click.option("--as", "new_name", metavar="NAME", help="Name of the credential here; by default the same.")
@click.option("--hours", type=hours_option, metavar="H", help="Life; the server may give less.")
@click.option("--no-passphrase", "-n", is_flag=True, help="Show your proxy instead, as a trusted retriever.")
@click.option("--renew", "older", type=FILE, metavar="FILE", help="Show your proxy, and this older one of the owner.")
@JSON
@connected
def import_credential(
    session: Session,
    *,
    source: str,
    username: str | None,
    name: str,
    new_name: str | None,
    hours: float | None,
    no_passphrase: bool,
    older: Path | None,
    as_json: bool,
) -> None:
    """Fetch a proxy from a MyProxy server and delegate it; print the new credential's id.

    You are asked for the pass phrase that was given to myproxy-init, and need no proxy of your own. Nothing of what is
    fetched is written to a file.

    \b
    Examples:
      pilotage credential import --from-myproxy myproxy.example.org --username alice
      pilotage credential import --from-myproxy myproxy.example.org:7512 -l alice -k panda -n
    """
    import getpass

    from pilotage.errors import refuse
    from pilotage.myproxy.client import MyProxyServer, Wanted, fetch
    from pilotage.reasons import Reason
    from pilotage.x509.files import find_identity, load_identity

    server = MyProxyServer.parse(source)
    user = username or getpass.getuser()
    asks = not no_passphrase and older is None
    settings = session.config.credential
    life = datetime.timedelta(hours=settings.hours if hours is None else hours)
    wanted = Wanted(username=user, name=name, lifetime_seconds=int(life.total_seconds()))
    if asks:
        without = refuse(Reason.PASSPHRASE_WRONG, "No pass phrase was given.")
        wanted = msgspec.structs.replace(wanted, passphrase=ask_secret(f"MyProxy pass phrase of {user}", without))
    else:
        shown = find_identity(os.environ, os.geteuid(), ask_passphrase)
        renewed = load_identity(older, ask=ask_passphrase) if older is not None else None
        wanted = msgspec.structs.replace(wanted, identity=shown, older=renewed)
    fetched = fetch(server, session.ca_dir, wanted)
    with session.connect(fetched) as client:
        sealed = client.credentials.delegate(
            life, name=name if new_name is None else new_name, kind=settings.key_kind, shorten=hours is None
        )
    _tell_new(sealed, as_json=as_json)


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
    failures: list[PilotageError] = []
    with session.connect() as client:
        for named in dict.fromkeys(credential_ids):
            try:
                credential_id = client.credentials.id_of(named)
                client.credentials.destroy(credential_id)
            except PilotageError as error:
                # The others are destroyed all the same: who destroys several is in a hurry.
                say(f"{named} is NOT destroyed: {error.reason.name}")
                failures.append(error)
            else:
                say(f"{credential_id} is destroyed")
    if failures:
        raise failures[0]


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


def _tell_new(sealed: "Sealed", *, as_json: bool) -> None:
    """Print a new credential."""
    if as_json:
        from pilotage.cli.render import emit_json

        emit_json(sealed.credential)
    else:
        click.echo(sealed.credential.credential_id)
        say(f"good until {sealed.credential.expire_time:%Y-%m-%d %H:%M} UTC")
