"""`helper.conf` from a translation, written whole or not at all."""

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from pilotage.errors import refuse
from pilotage.reasons import Reason
from pilotage_helper.lcmaps.translation import Translation
from pilotage_helper.maps import check_map_section
from pilotage_helper.site import read_site

DEFAULTS = {
    "ca_dir": "/etc/grid-security/certificates",
    "voms_dir": "/etc/grid-security/vomsdir",
    "verify_user": "pilotage-verify",
    "audit_file": "/var/log/pilotage/helper.jsonl",
}
CALLER = """\
# Who may call is not in lcmaps.db (gLExec had user_white_list in glexec.conf). Until there is a section, nobody may:
# [caller pilot]
# vos = VO ...
# accounts = NAME* ...
# glexec = yes
"""


def render(translation: Translation, source: str) -> str:
    """Return the text; it begins with what is not quite as it was."""
    lines = [f"# Made from {_printable(source)} by pilotage-helper import-lcmaps."]
    lines += [f"# Differs: {note}." for note in translation.notes]
    lines += ["", "[helper]", *_keys({**DEFAULTS, **translation.helper})]
    lines += ["", "[map]", *_keys(translation.mapping), "", CALLER]
    return "\n".join(lines)


def write_config(text: str, path: Path, *, force: bool) -> None:
    """Put the text under the name in one step, once the helper's own reader has taken it.

    Raises HELPER_CONFIG_UNUSABLE when something is there already, unless forced, or the folder cannot be written.
    """
    temporary = None
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        temporary = Path(name)
        with os.fdopen(handle, "w") as file:
            file.write(text)
            file.flush()
            os.fchmod(file.fileno(), 0o644)
            os.fsync(file.fileno())
        check_map_section(read_site(temporary, any_owner=True))
        if force:
            temporary.replace(path)
        else:
            os.link(temporary, path, follow_symlinks=False)
    except FileExistsError as error:
        raise refuse(Reason.HELPER_CONFIG_UNUSABLE, f"{path} is there already; --force replaces it") from error
    except OSError as error:
        raise refuse(Reason.HELPER_CONFIG_UNUSABLE, f"{path} cannot be written: {error.strerror}") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def _keys(section: Mapping[str, str]) -> list[str]:
    return [f"{key} = {value}" for key, value in section.items()]


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in text)
