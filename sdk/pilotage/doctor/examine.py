"""The whole examination, in the order in which a submission would stumble."""

import datetime
from collections.abc import Mapping
from pathlib import Path

import msgspec

from pilotage.client import Client, remembered
from pilotage.config import config_path, data_home
from pilotage.doctor.files import look_at_authorities, look_at_identity, look_at_keys
from pilotage.doctor.findings import Findings, Level, error, well
from pilotage.doctor.server import look_at_credentials, look_at_jobs, look_at_login, look_at_server
from pilotage.errors import PilotageError
from pilotage.transport import parse_target
from pilotage.x509.files import Ask, LocalIdentity


class Patient(msgspec.Struct, frozen=True):
    """Who is examined: what a client would be made with."""

    environ: Mapping[str, str]
    uid: int
    ca_dir: Path
    server: str
    audience: str | None = None
    ask: Ask | None = None


def examine(patient: Patient, now: datetime.datetime) -> Findings:
    """Yield findings, each as soon as it is made; later ones are left out where an earlier one forbids them."""
    path = config_path(patient.environ)
    if path is not None and path.exists():
        yield well("configuration", path, "read")
    yield from look_at_authorities(patient.ca_dir, now)
    identities: list[LocalIdentity] = []
    yield from look_at_identity(patient.environ, patient.uid, remembered(patient.ask), now, identities)
    home = data_home(patient.environ)
    folder = home / "retrieval-keys" if home else None
    if not patient.server:
        yield from look_at_keys(folder, None)
        yield error(
            "server", "none", "no server is named", "export PILOTAGE_SERVER=HOST[:PORT], or give -s HOST[:PORT]"
        )
        return
    try:
        place = parse_target(patient.server)
    except PilotageError as refusal:
        yield from look_at_keys(folder, None)
        yield error("server", patient.server, refusal.message, "export PILOTAGE_SERVER=HOST[:PORT]")
        return
    reached = look_at_server(place, patient.ca_dir, now)
    yield reached
    if reached.level is Level.ERROR or not identities:
        yield from look_at_keys(folder, None)
        return
    client = Client(
        patient.server,
        ca_dir=patient.ca_dir,
        identity=identities[0],
        audience=patient.audience,
        environ=patient.environ,
    )
    with client:
        logged_in = True
        for finding in look_at_login(client, identities[0], now):
            logged_in = logged_in and finding.level is not Level.ERROR
            yield finding
        if not logged_in:
            yield from look_at_keys(folder, None)
            return
        try:
            credentials = list(client.credentials.list())
        except PilotageError as refusal:
            # Who is banned may ask who they are, and nothing else.
            yield error("login", identities[0].source, str(refusal), "ask the operators of the service")
            yield from look_at_keys(folder, None)
            return
        yield from look_at_credentials(credentials, identities[0], now)
        yield from look_at_keys(folder, credentials)
        yield from look_at_jobs(client)
