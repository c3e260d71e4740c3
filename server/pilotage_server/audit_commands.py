"""`pilotage-server audit`: prove the chain, and read it, with the server running or not."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec

from pilotage.errors import refuse
from pilotage.reasons import Reason
from pilotage_server import keys as key_files
from pilotage_server.config import Config
from pilotage_server.credentials import proving
from pilotage_server.credentials.anchor import FILE, AnchorFile
from pilotage_server.store import audit
from pilotage_server.store.audit import AuditRow, Filter, Head

LOG = "audit.jsonl"
DATABASE = "credentials.sqlite"
PAGE = 500


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]", config: argparse.ArgumentParser) -> None:
    """Add the commands; `config` has the option that each takes."""
    text = "prove or read the audit of everything done with credentials"
    verbs = commands.add_parser("audit", help=text, description=text).add_subparsers(dest="verb", required=True)
    text = "prove that no row of the audit was changed or taken away, against the anchor and the logs"
    verify = verbs.add_parser("verify", help=text, description=text, parents=[config])
    verify.add_argument("--database", type=Path, metavar="FILE", help="another copy than the server's own")
    verify.add_argument(
        "--log", type=Path, action="append", metavar="FILE", help=f"log that names rows; may be repeated ({LOG})"
    )
    verify.set_defaults(act=verify_audit)
    text = "print the audit, oldest first"
    show = verbs.add_parser("show", help=text, description=text, parents=[config])
    show.add_argument("--database", type=Path, metavar="FILE", help="another copy than the server's own")
    for name, column, metavar in (
        ("--dn", "actor_dn", "DN"),
        ("--credential", "credential_id", "ID"),
        ("--job", "job_id", "ID"),
        ("--act", "wanted_act", "TEXT"),
    ):
        show.add_argument(name, dest=column, default="", metavar=metavar, help="only these rows")
    show.add_argument("--last", type=int, default=0, metavar="N", help="only the newest N rows")
    show.add_argument("--json", action="store_true", help="one JSON object a line")
    show.set_defaults(act=show_audit)


def verify_audit(config: Config, chosen: argparse.Namespace) -> int:
    """Prove the chain; what is known of it is read before it, so that a server that runs does not look like a liar."""
    state = config.server.state_dir
    if not (state / FILE).exists() and not (state / DATABASE).exists():
        raise refuse(
            Reason.STORE_UNAVAILABLE, f"There is no audit in {state} yet; the first `pilotage-server run` begins it."
        )
    known = list(_logged(chosen.log or [path for path in (state / LOG,) if path.exists()]))
    anchor = AnchorFile(state / FILE).read(key_files.load(state / "keys", service=False).token_keys().publics)
    if anchor is None:
        raise refuse(Reason.AUDIT_BROKEN, f"The anchor {state / FILE} is missing.")
    proof = proving.prove(chosen.database or state / DATABASE, [*known, anchor])
    print(
        f"unbroken: {proof.head.seq} rows, the last is {proof.head.digest.hex()};"
        f" {proof.known} of them known to the anchor or the logs"
    )
    return 0


def _logged(paths: list[Path]) -> list[Head]:
    found: list[Head] = []
    for path in paths:
        try:
            with path.open("rb") as file:
                found += proving.logged(file)
        except OSError as error:
            raise refuse(Reason.CONFIG_INVALID, f"{path}: it cannot be read ({error.strerror}).") from error
    return found


def show_audit(config: Config, chosen: argparse.Namespace) -> int:
    """Print rows."""
    wanted = Filter(
        actor_dn=chosen.actor_dn, credential_id=chosen.credential_id, job_id=chosen.job_id, act=chosen.wanted_act
    )
    path = chosen.database or config.server.state_dir / DATABASE
    write: Callable[[AuditRow], str] = as_json if chosen.json else as_text
    with proving.opened(path) as connection:
        rows: list[AuditRow] = []
        before = 2**62
        while not chosen.last or len(rows) < chosen.last:
            most = min(PAGE, chosen.last - len(rows)) if chosen.last else PAGE
            page = audit.page(connection, wanted, before, most)
            rows += page
            if len(page) < most:
                break
            before = page[-1].head.seq
    if not rows:
        print("no rows", file=sys.stderr)
    for row in reversed(rows):
        sys.stdout.write(write(row) + "\n")
    return 0


def as_json(row: AuditRow) -> str:
    """Return a row as one line for programs."""
    line = {"seq": row.head.seq, "time": row.time.isoformat(), "digest": row.head.digest.hex()}
    return msgspec.json.encode(line | msgspec.structs.asdict(row.entry) | {"facts": dict(row.entry.facts)}).decode()


def as_text(row: AuditRow) -> str:
    """Return a row as one line for a person."""
    entry = row.entry
    names = {
        "by": entry.actor_dn,
        "owner": entry.owner_dn,
        "credential": entry.credential_id,
        "job": entry.job_id,
        "lease": entry.lease_id,
        "reason": entry.reason,
        **entry.facts,
        "from": entry.peer,
    }
    told = " ".join(f"{name}={_quoted(value)}" for name, value in names.items() if value)
    return f"{row.head.seq} {row.time:%Y-%m-%dT%H:%M:%SZ} {entry.act.value}: {told}"


def _quoted(value: str) -> str:
    return value if value.isprintable() and not set(value) & set(' "=') else msgspec.json.encode(value).decode()
