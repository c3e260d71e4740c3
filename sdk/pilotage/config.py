"""The user's configuration: one TOML file, then the environment, then the command line.

The file is `$XDG_CONFIG_HOME/pilotage/config.toml` or what PILOTAGE_CONFIG names:

    server = "pilotage.example.org:7643"
    [submit]
    site = "CERN"
    [credential]
    hours = 48

PILOTAGE_SERVER, PILOTAGE_AUDIENCE and PILOTAGE_CA_DIR override the keys outside tables,
PILOTAGE_SUBMIT__SITE the key `site` of `[submit]`, and so on.
"""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from pilotage.errors import refuse
from pilotage.reasons import Reason
from pilotage.x509.keys import KeyKind

PREFIX = "PILOTAGE_"
TOP_LEVEL = ("server", "audience", "ca_dir")


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A table of the file; a name it does not know is a mistake."""


class SubmitSection(Section, frozen=True, kw_only=True):
    """What a submission asks for when the command line does not say."""

    site: str = ""
    cores: int = 0
    memory: str = ""
    time: str = ""
    tags: tuple[str, ...] = ()


class CredentialSection(Section, frozen=True, kw_only=True):
    """How credentials are delegated."""

    name: str = ""
    hours: Annotated[float, msgspec.Meta(gt=0, le=10 * 366 * 24)] = 7 * 24
    key: Literal["rsa", "ec"] = "rsa"

    @property
    def key_kind(self) -> KeyKind:
        """Return the kind of key to ask the service for."""
        return KeyKind.EC_P256 if self.key == "ec" else KeyKind.RSA_2048


class Config(Section, frozen=True, kw_only=True):
    """Everything a client can be told."""

    server: str = ""
    audience: str | None = None
    ca_dir: Path | None = None
    submit: SubmitSection = SubmitSection()
    credential: CredentialSection = CredentialSection()


def config_path(environ: Mapping[str, str]) -> Path | None:
    """Return where the file should be, or None where there is no home."""
    if named := environ.get("PILOTAGE_CONFIG"):
        return Path(named)
    if base := environ.get("XDG_CONFIG_HOME"):
        return Path(base) / "pilotage" / "config.toml"
    home = environ.get("HOME")
    return Path(home) / ".config" / "pilotage" / "config.toml" if home else None


def data_home(environ: Mapping[str, str]) -> Path | None:
    """Return the folder for what the client keeps, or None where there is no home."""
    if base := environ.get("XDG_DATA_HOME"):
        return Path(base) / "pilotage"
    home = environ.get("HOME")
    return Path(home) / ".local" / "share" / "pilotage" if home else None


def load_config(environ: Mapping[str, str]) -> Config:
    """Read the file, if there is one, and the environment; raise CONFIG_INVALID with the place."""
    path = config_path(environ)
    # What TOML holds is only known after the conversion below.
    values: dict[str, object] = {}
    if path is not None and (path.is_file() or "PILOTAGE_CONFIG" in environ):
        values = _read(path)
        _convert(values, str(path), strict=True)
    return _convert(_with_environment(values, environ), "the environment", strict=False)


def _read(path: Path) -> dict[str, object]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise refuse(Reason.CONFIG_INVALID, f"{path} cannot be read ({error.strerror}).") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise refuse(Reason.CONFIG_INVALID, f"{path} is not TOML: {error}.") from error


def _convert(values: dict[str, object], where: str, *, strict: bool) -> Config:
    try:
        return msgspec.convert(values, Config, strict=strict)
    except msgspec.ValidationError as error:
        raise refuse(Reason.CONFIG_INVALID, f"{where}: {error}.") from error


def _with_environment(values: dict[str, object], environ: Mapping[str, str]) -> dict[str, object]:
    merged = {key: dict(value) if isinstance(value, dict) else value for key, value in values.items()}
    for variable, text in environ.items():
        if not variable.startswith(PREFIX):
            continue
        name = variable.removeprefix(PREFIX).lower()
        section, separator, key = name.partition("__")
        if not separator:
            # Others, such as PILOTAGE_JOB_ID of a payload, are not configuration.
            if name in TOP_LEVEL and text:
                merged[name] = text
            continue
        table = merged.setdefault(section, {})
        if isinstance(table, dict):
            table[key] = text.split(",") if key == "tags" else text
    return merged
