"""What the pilot asks of a helper before it asks for a job."""

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest

from pilotage.errors import PilotageError
from pilotage.reasons import Reason
from pilotage_pilot.probe import check_mapping
from pilotage_pilot.switch import Helper

MAPPED = {"event": "map", "account": "demo01", "uid": 20001, "gid": 20001, "dn": "/O=Toy/CN=pilot"}
NO_MAPPING = {"event": "refused", "code": 203, "number": 404, "reason": "NO_MAPPING", "retry": False, "message": "no"}


def asked(folder: Path, answer: dict[str, object]) -> None:
    """Probe a helper that gives one answer to `map`."""
    program = folder / "helper"
    code, text = answer.get("code", 0), json.dumps(answer).encode() + b"\n"
    program.write_text(
        f"#!{sys.executable}\nimport os, sys\nfd = int(sys.argv[sys.argv.index('--status-fd') + 1])\n"
        f"os.write(fd, {text!r})\nsys.exit({code})\n"
    )
    program.chmod(0o755)
    helper = Helper(program, Path(os.path.realpath(sys.executable)), Path("/nowhere"))
    asyncio.run(check_mapping(helper, folder / "proxy"))


@pytest.mark.parametrize("answer", [MAPPED, NO_MAPPING], ids=["mapped", "refused"])
def test_an_answer_of_a_helper_at_work_will_do(tmp_path: Path, answer: dict[str, object]) -> None:
    asked(tmp_path, answer)
    asked(tmp_path, answer | {"mode": "switch"})


@pytest.mark.parametrize(
    ("reason", "works"),
    [
        (Reason.NOT_A_PROXY, True),
        (Reason.LIFETIME_TOO_LONG, True),
        (Reason.VOMS_LIFETIME, True),
        (Reason.CRL_EXPIRED, False),
        (Reason.PROXY_EXPIRED, False),
        (Reason.VOMS_EXPIRED, False),
        (Reason.VOMS_LSC_MISSING, False),
        (Reason.CHAIN_UNKNOWN_CA, False),
    ],
)
def test_a_refusal_for_what_payloads_do_not_share_shows_a_helper_at_work_and_others_do_not(
    tmp_path: Path, reason: Reason, works: bool
) -> None:
    answer = NO_MAPPING | {"number": reason.value, "reason": reason.name}
    if works:
        asked(tmp_path, answer)
    else:
        with pytest.raises(PilotageError, match=reason.name) as refused:
            asked(tmp_path, answer)
        assert refused.value.reason is Reason.HELPER_PROBE_FAILED


@pytest.mark.parametrize("answer", [MAPPED, NO_MAPPING], ids=["mapped", "refused"])
def test_a_helper_that_does_not_switch_is_refused_before_the_first_job(
    tmp_path: Path, answer: dict[str, object]
) -> None:
    with pytest.raises(PilotageError) as refused:
        asked(tmp_path, answer | {"mode": "log-only"})
    assert refused.value.reason is Reason.HELPER_PROBE_FAILED
    assert "mode log-only" in refused.value.message
