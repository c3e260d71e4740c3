"""The command `pilotage-helper`: show anybody what the verifier and the map say."""

import configparser
import functools
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, NoReturn

import click
import msgspec

from pilotage.errors import PilotageError, refuse
from pilotage.reasons import Reason
from pilotage_helper.maps import MapOptions, Mapping, map_identity
from pilotage_helper.verify import Identity, VerifyOptions, verify_pem

INPUT_MAX = 256 * 1024
CERTIFICATES = "/etc/grid-security/certificates"
VOMSDIR = "/etc/grid-security/vomsdir"
FOLDER = click.Path(path_type=Path)


class Moment(click.ParamType[datetime]):
    """ISO 8601 (without a zone it is UTC) or Unix seconds."""

    name = "time"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Return an aware time after 1970."""
        try:
            moment = datetime.fromtimestamp(int(value), UTC) if value.isdigit() else datetime.fromisoformat(value)
        except (ValueError, OverflowError, OSError):
            self.fail(f"{value!r} is neither ISO 8601 nor Unix seconds", param, ctx)
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        if moment.timestamp() < 1:
            self.fail(f"{value!r} is before 1970", param, ctx)
        return moment


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
def main() -> None:
    """Verify proxies and try the account map, without any privilege."""


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
@click.option("--config", type=click.Path(path_type=Path), help="Take paths and limits from this helper.conf.")
@click.option("--grid-mapfile", type=FOLDER, help="Lines of DN or FQAN and accounts.")
@click.option("--gridmapdir", type=FOLDER, help="Directory of pool leases; nothing is leased.")
@click.option("--ban-file", type=FOLDER, help="DNs and FQANs that are refused.")
@click.option("--trust-any-owner", is_flag=True, help="Read map files that root does not own.")
@trust_options
@answers
def map_command(
    *,
    config: Path | None,
    grid_mapfile: Path | None,
    gridmapdir: Path | None,
    ban_file: Path | None,
    trust_any_owner: bool,
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
    """Say which account the PEM FILE would run under; lease nothing."""
    section = _section(config) if config else {}
    mapfile = grid_mapfile or _path(section, "grid_mapfile")
    if mapfile is None:
        raise click.UsageError("give --grid-mapfile, or --config with a grid_mapfile in it")
    options = VerifyOptions(
        _path(section, "ca_dir") or certificates,
        _path(section, "voms_dir") or vomsdir,
        skew,
        require_crl,
        require_key=require_key,
        require_proxy=require_proxy,
        host=host,
    )
    maps = MapOptions(
        mapfile,
        gridmapdir or _path(section, "gridmapdir"),
        ban_file or _path(section, "ban_file"),
        _number(section, "min_uid"),
        _number(section, "min_gid"),
        trust_any_owner=trust_any_owner,
    )
    identity = verify_pem(_read(file), options, at)
    _print(_describe(identity) | _describe_account(map_identity(identity, maps)), as_json=as_json)


def _read(file: BinaryIO) -> bytes:
    try:
        return file.read(INPUT_MAX + 1)
    except OSError as error:
        raise refuse(Reason.IDENTITY_FILE_UNUSABLE, f"{file.name} cannot be read: {error.strerror}") from error


def _section(path: Path) -> dict[str, str]:
    parser = configparser.ConfigParser(interpolation=None, comment_prefixes=("#",), inline_comment_prefixes=("#",))
    try:
        parser.read_string(path.read_text())
        return dict(parser["helper"])
    except (OSError, UnicodeDecodeError, configparser.Error, KeyError) as error:
        raise refuse(Reason.HELPER_CONFIG_INVALID, f"{path} cannot be used: {error}") from error


def _path(section: dict[str, str], key: str) -> Path | None:
    return Path(section[key]) if section.get(key) else None


def _number(section: dict[str, str], key: str) -> int:
    try:
        return int(section.get(key, "1000"))
    except ValueError as error:
        raise refuse(Reason.HELPER_CONFIG_INVALID, f"{key} is not a number") from error


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
