"""What all attempts of a pilot share."""

import msgspec

from pilotage.x509.pool import KeyPool
from pilotage_pilot.config import PilotConfig
from pilotage_pilot.session import Session
from pilotage_pilot.switch import Helper
from pilotage_pilot.workspace import Workspace


class Tools(msgspec.Struct, frozen=True):
    """The pilot's own parts, as an attempt uses them."""

    config: PilotConfig
    session: Session
    helper: Helper
    workspace: Workspace
    keys: KeyPool
