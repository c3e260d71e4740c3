"""The command `pilotage-helper`: show anybody what the verifier, the map and the audit file say."""

import functools
import os
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, NoReturn

import click
import msgspec

from pilotage.errors import PilotageError, refuse
from pilotage.reasons import Reason
from pilotage_helper.accounting.command import accounting
from pilotage_helper.doctor import State, examine, worst
from pilotage_helper.lcmaps import Problems, read_database, render, translate, write_config
from pilotage_helper.maps import MapOptions, Mapping, check_maps, map_identity
from pilotage_helper.moment import Moment
from pilotage_helper.site import read_site
from pilotage_helper.verify import Identity, VerifyOptions, verify_pem

INPUT_MAX = 256 * 1024
CERTIFICATES = "/etc/grid-security/certificates"
CONFIG = "/etc/pilotage/helper.conf"
VOMSDIR = "/etc/grid-security/vomsdir"
FOLDER = click.Path(path_type=Path)
UNREADABLE = click.Path(path_type=Path, readable=False)
"""The setuid program: nobody but root may read it, and nobody has to."""


def trust_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that say what to verify and against which directories."""
    options = (
        click.option(
            "--certificates",
            type=FOLDER,
            envvar="X509_CERT_DIR",
            default=CERTIFICATES,
            show_default=True,
            help="Directory of trusted certificate authorities.",
        ),
        click.option(
            "--vomsdir",
            type=FOLDER,
            envvar="X509_VOMS_DIR",
            default=VOMSDIR,
            show_default=True,
            help="Directory of <vo>/<host>.lsc files.",
        ),
        click.option("--at", type=Moment(), help="Verify as at this time: ISO 8601 or Unix seconds."),
        click.option("--skew", type=click.IntRange(0, 86400), default=300, show_default=True, help="Seconds allowed."),
        click.option("--host", default="", help="This host's name, for attributes meant for some hosts only."),
        click.option("--require-crl/--no-require-crl", default=True, show_default=True, help="Want a CRL of each CA."),
        click.option("--require-key", is_flag=True, help="Want the private key, and that it fits."),
        click.option("--require-proxy", is_flag=True, help="Refuse a bare certificate."),
        click.option("--json", "as_json", is_flag=True, help="Answer in JSON."),
        click.argument("file", type=click.File("rb")),
    )
    for option in reversed(options):
        command = option(command)
    return command


def answers(command: Callable[..., None]) -> Callable[..., None]:
    """Turn a refusal into the reason on standard error (or in JSON) and the table's exit code."""

    @functools.wraps(command)
    def wrapped(*, as_json: bool, **rest: object) -> None:
        try:
            command(as_json=as_json, **rest)
        except PilotageError as error:
            _refused(error, as_json=as_json)

    return wrapped


@click.group()
@click.version_option(package_name="pilotage", prog_name="pilotage-helper")
def main() -> None:
    """Verify proxies, try the account map and export accounting, without any privilege."""


main.add_command(accounting)


@main.command()
@trust_options
@answers
def verify(
    *,
    certificates: Path,
    vomsdir: Path,
    at: datetime | None,
    skew: int,
    host: str,
    require_crl: bool,
    require_key: bool,
    require_proxy: bool,
    as_json: bool,
    file: BinaryIO,
) -> None:
    """Say who the PEM FILE speaks for (- is standard input), or why it is refused."""
    options = VerifyOptions(
        certificates, vomsdir, skew, require_crl, require_key=require_key, require_proxy=require_proxy, host=host
    )
    identity = verify_pem(_read(file), options, at)
    _print(_describe(identity), as_json=as_json)


@main.command("map")
@click.option("--config", type=FOLDER, default=CONFIG, show_default=True, help="The site's helper.conf.")
@click.option("--certificates", type=FOLDER, help="Directory of authorities, instead of the configuration's.")
@click.option("--vomsdir", type=FOLDER, help="Directory of <vo>/<host>.lsc files, instead of the configuration's.")
@click.option("--caller", help="Whose bounds hold: NAME of a [caller NAME]; not needed where there is only one.")
@click.option("--account", default="", help="Verify mode: does the proxy map to this account?")
@click.option("--command", "wanted", default="", help="Would this command (an absolute path) be permitted?")
@click.option("--lease", is_flag=True, help="Lease an account of a pool, with your own rights; else change nothing.")
@click.option("--strict", is_flag=True, help="Want every file to be root's alone, as the setuid program does.")
@click.option("--at", type=Moment(), help="Verify and map as at this time: ISO 8601 or Unix seconds.")
@click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")
@click.argument("file", metavar="PROXY", type=click.File("rb"))
@answers
def map_command(
    *,
    config: Path,
    certificates: Path | None,
    vomsdir: Path | None,
    caller: str | None,
    account: str,
    wanted: str,
    lease: bool,
    strict: bool,
    at: datetime | None,
    as_json: bool,
    file: BinaryIO,
) -> None:
    """Say which account PROXY would run under by a site's configuration, or why it would be refused."""
    _use_the_machines_time_zone()
    site = read_site(config, any_owner=not strict)
    options = MapOptions(site, site.caller(caller), lease, account, wanted, None if at is None else int(at.timestamp()))
    identity = verify_pem(_read(file), site.verify_options(certificates, vomsdir), at)
    _print(_describe(identity) | _describe_account(map_identity(identity, options)), as_json=as_json)


@main.command("check-config")
@click.option("--strict", is_flag=True, help="Want every file to be root's alone, as the setuid program does.")
@click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")
@click.argument("config", type=FOLDER, default=CONFIG)
@answers
def check_config(*, strict: bool, as_json: bool, config: Path) -> None:
    """Read a helper.conf and every map file that it names; tell all that is wrong in a file at once."""
    site = read_site(config, any_owner=not strict)
    check_maps(site)
    _print({"config": str(config), "callers": tuple(caller.name for caller in site.callers)}, as_json=as_json)


@main.command("import-lcmaps")
@click.option("--policy", "policies", multiple=True, help="Translate this policy only; may be repeated.")
@click.option("--gridmapdir", default="", help="Directory of leases, where LCMAPS had it from a variable.")
@click.option("--output", type=FOLDER, help="Write this helper.conf, which is not there yet; else standard output.")
@click.option("--force", is_flag=True, help="Replace the file that is there.")
@click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")
@click.argument("database", metavar="LCMAPS.DB", type=click.File("rb"))
@answers
def import_lcmaps(
    *, policies: tuple[str, ...], gridmapdir: str, output: Path | None, force: bool, as_json: bool, database: BinaryIO
) -> None:
    """Translate a site's LCMAPS policy into a helper.conf, or say line by line what has no like.

    Nothing is written unless all of it can be translated.
    """
    try:
        translation = translate(read_database(_read(database).decode("latin-1")), policies, gridmapdir)
    except Problems as found:
        words = "; ".join(str(problem) for problem in found.problems)
        raise refuse(Reason.HELPER_CONFIG_INVALID, f"{database.name} cannot be translated: {words}") from found
    text = render(translation, database.name)
    if output is None:
        click.echo(msgspec.json.encode({"ok": True, "config": text}).decode() if as_json else text, nl=as_json)
        return
    write_config(text, output, force=force)
    _print({"config": str(output), "notes": translation.notes}, as_json=as_json)


@main.command()
@click.option("--config", type=FOLDER, default=CONFIG, show_default=True, help="The site's helper.conf.")
@click.option("--program", type=UNREADABLE, default="/usr/sbin/pilotage-exec", show_default=True, help="The helper.")
@click.option("--libexec", type=FOLDER, default="/usr/libexec/pilotage", show_default=True, help="Its companions.")
@click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")
def doctor(*, config: Path, program: Path, libexec: Path, as_json: bool) -> None:
    """Say what this machine lacks for the helper, and what is weaker then.

    Run it as the pilot's account, from where the pilot is started. Nothing is changed. The exit code is 0 when
    payloads can run, 1 when something refuses them.
    """
    findings = list(examine(config, program, libexec))
    state = worst(findings)
    if as_json:
        click.echo(msgspec.json.encode({"state": state, "findings": findings}).decode())
    else:
        for finding in findings:
            click.echo(f"{finding.state.value.upper():<7} {finding.subject}: {finding.found}")
            if finding.means:
                click.echo(f"        {finding.means}")
    sys.exit(1 if state is State.BROKEN else 0)


def _use_the_machines_time_zone() -> None:
    """Judge time slots as the helper does, which has no environment."""
    if os.environ.pop("TZ", None) is not None:
        time.tzset()


def _read(file: BinaryIO) -> bytes:
    try:
        return file.read(INPUT_MAX + 1)
    except OSError as error:
        raise refuse(Reason.IDENTITY_FILE_UNUSABLE, f"{file.name} cannot be read: {error.strerror}") from error


def _describe(identity: Identity) -> dict[str, object]:
    left = identity.not_after - datetime.now(UTC)
    return {
        "dn": identity.dn,
        "issuer": identity.issuer,
        "vo": identity.vo,
        "fqans": identity.fqans,
        "limited": identity.limited,
        "proxies": identity.depth,
        "has_key": identity.has_key,
        "not_before": identity.not_before,
        "not_after": identity.not_after,
        "seconds_left": max(0, int(left.total_seconds())),
        "voms_not_after": identity.voms_not_after,
        "note": identity.note,
    }


def _describe_account(mapping: Mapping) -> dict[str, object]:
    return {
        "account": mapping.account,
        "uid": mapping.uid,
        "gid": mapping.gid,
        "groups": mapping.groups,
        "home": mapping.home,
        "lease": mapping.lease,
    }


def _print(fields: dict[str, object], *, as_json: bool) -> None:
    if as_json:
        click.echo(msgspec.json.encode({"ok": True} | fields).decode())
        return
    for name, value in fields.items():
        lines = value if isinstance(value, tuple) and value else (value,)
        for line in lines:
            click.echo(f"{name.replace('_', ' ') + ':':<16}{_word(line)}")


def _word(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%dT%H:%M:%SZ")
    return "-" if value in (None, "", ()) else str(value)


def _refused(error: PilotageError, *, as_json: bool) -> NoReturn:
    reason = error.reason
    if as_json:
        answer = {"ok": False, "reason": reason.name, "number": reason.value, "message": error.message}
        click.echo(msgspec.json.encode(answer).decode())
    else:
        click.echo(f"pilotage-helper: refused: {reason.name} ({reason.value}): {error.message}", err=True)
    sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
