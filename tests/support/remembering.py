"""Ask the cache of verified chains and the verifier the same, and compare."""

import base64
import datetime
import re
import time
from collections.abc import Sequence
from pathlib import Path

from pilotage.errors import VerifyError
from pilotage.reasons import Reason
from pilotage_helper import ChainCache, Identity, VerifyOptions, verify_chain

SETTLED = 2.1
"""Seconds after which a changed file is trusted to be seen when it changes again, and a little more."""

Chain = Sequence[bytes]


def ders(pem: bytes) -> list[bytes]:
    """Return the certificates of a PEM file, in their order and without its key."""
    blocks = re.findall(rb"-----BEGIN CERTIFICATE-----(.*?)-----END CERTIFICATE-----", pem, flags=re.DOTALL)
    return [base64.b64decode(block) for block in blocks]


def settle(*folders: Path) -> None:
    """Wait until no file below was changed lately."""
    times = [path.lstat().st_ctime for folder in folders for path in (folder, *folder.rglob("*"))]
    time.sleep(max(0.0, max(times, default=0) + SETTLED - time.time()))


def fresh(chain: Chain, options: VerifyOptions, at: datetime.datetime | None = None) -> Identity | Reason:
    """Return what the verifier says, without any memory."""
    try:
        return verify_chain(chain, options, at)
    except VerifyError as error:
        return error.reason


def remembered(cache: ChainCache, chain: Chain, at: datetime.datetime | None = None) -> Identity | Reason:
    """Return what a server would be told: from memory if it is there, else verified anew."""
    try:
        return cache.find(chain, at) or cache.verify(chain, at)
    except VerifyError as error:
        return error.reason
