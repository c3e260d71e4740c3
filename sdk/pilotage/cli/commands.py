"""The root command, and what it is made of."""

from pathlib import Path

import click

from pilotage.cli.admin import admin
from pilotage.cli.credentials import credential
from pilotage.cli.doctor import doctor
from pilotage.cli.jobs import cancel, events, fetch, logs, ls, show, wait
from pilotage.cli.links import link
from pilotage.cli.session import Group, Session, connected
from pilotage.cli.submit import submit


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("-s", "--server", metavar="HOST[:PORT]", help="Server to speak to (PILOTAGE_SERVER).")
@click.option("--certificates", type=click.Path(path_type=Path), metavar="DIR", help="CA directory (X509_CERT_DIR).")
@click.version_option(package_name="pilotage", prog_name="pilotage")
@click.pass_context
def cli(ctx: click.Context, server: str | None, certificates: Path | None) -> None:
    """Run jobs on worker nodes, each as its owner.

    \b
    Examples:
      pilotage submit --input data.csv --output plot.svg -- ./analyse.py data.csv
      pilotage ls
      pilotage wait JOB && pilotage fetch JOB --to results
      pilotage logs -f JOB
      pilotage show JOB -o json | jq .state

    Your proxy is found as every grid tool finds it: X509_USER_PROXY, /tmp/x509up_u<uid>,
    X509_USER_CERT and X509_USER_KEY, ~/.globus. Results go to stdout, talk goes to stderr.

    \b
    Exit codes:
      0 done   1 failed   2 usage   3 not found   4 not authorised, or no credential
      5 server unreachable   6 a waited-for job did not succeed   130 interrupted
    """
    ctx.obj = Session(server, certificates)


@click.command()
@click.option("-o", "--format", "form", type=click.Choice(["text", "json"]), default="text", help="Form of the answer.")
@click.option("--json", "as_json", is_flag=True, help="Same as -o json.")
@connected
def whoami(session: Session, form: str, as_json: bool) -> None:
    """Show who you are to the server.

    \b
    Example:
      pilotage whoami
    """
    from pilotage.cli.render import emit_json, emit_pairs, when

    with session.connect() as client:
        caller = client.whoami()
        source = client.identity().source
    if as_json or form == "json":
        emit_json(caller)
        return
    emit_pairs(
        [
            ("dn", caller.dn),
            ("vo", caller.vo),
            *(("fqan", fqan) for fqan in caller.fqans),
            ("roles", ", ".join(caller.roles) or "none"),
            ("proxy", "limited: it may neither submit nor delegate" if caller.limited else ""),
            ("session", f"until {when(caller.expire_time)}"),
            ("from", source),
        ]
    )


for command in (submit, ls, show, wait, logs, fetch, cancel, events, whoami, doctor, credential, link, admin):
    cli.add_command(command)
