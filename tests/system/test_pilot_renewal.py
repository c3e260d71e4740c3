"""A payload that outlives its proxy: server, pilot process, setuid helper and payload, all real."""

from collections.abc import Callable

import pytest

from pilotage.states import JobState, Outcome
from support.pilot_rig import PilotRig, host, make_node

__all__ = ["host", "make_node"]

pytestmark = pytest.mark.root

LIFE = 15
"""Seconds that a proxy lives; its renewal falls between 0.6 and 0.734 of it."""
FOREVER = 'echo ready; while [ ! -e go ]; do sleep 0.05; done; openssl x509 -in "$X509_USER_PROXY" -noout -enddate'
UNTIL_RENEWED = """
serial() { openssl x509 -in "$X509_USER_PROXY" -noout -serial; }
first=$(serial)
echo ready
while [ "$(serial)" = "$first" ]; do sleep 0.2; done
stat -c '%a %U' "$X509_USER_PROXY"
id -un
openssl x509 -in "$X509_USER_PROXY" -noout -issuer
openssl x509 -in "$X509_USER_PROXY" -noout -pubkey > one
openssl pkey -in "$X509_USER_PROXY" -pubout > two
cmp one two && echo "the key fits"
ls -A "$PILOTAGE_RUN_DIR" | sort | tr '\\n' ' '
"""


@pytest.fixture
def node(make_node: Callable[..., PilotRig]) -> PilotRig:
    return make_node(**{"retrieval.default": {"max_lifetime_seconds": LIFE}})


def test_a_payload_sees_its_next_proxy_before_the_first_one_ends(node: PilotRig) -> None:
    pilot, owner = node.start(), node.owner(0)
    job_id = node.submit(owner, "/bin/sh", "-c", UNTIL_RENEWED)
    job = node.wait(owner, job_id)
    assert (job.state, job.reason) == (JobState.FINISHED, ""), pilot.log
    assert job.result is not None
    mode, name, issuer, key, left = node.printed(owner, job_id).splitlines()[1:]
    assert mode == f"600 {job.result.account}"
    assert name == job.result.account
    assert "owner 1" in issuer
    assert key == "the key fits"
    assert left.split() == ["proxy", "tmp", "work"]
    assert "the payload has a new proxy" in pilot.log
    node.nothing_left()
    assert pilot.stop() == 0
    assert "BEGIN" not in pilot.log
    assert "eyJ" not in pilot.log


def test_a_payload_without_its_next_proxy_runs_on_and_its_owner_hears_why(node: PilotRig) -> None:
    pilot, owner = node.start(), node.owner(0)
    job_id = node.submit(owner, "/bin/sh", "-c", FOREVER)
    node.running(owner, job_id)
    before = owner.get(job_id).proxy
    assert before is not None
    program = node.helper.program
    away = program.with_name("away")
    program.rename(away)
    try:

        def told() -> bool:
            proxy = owner.get(job_id).proxy
            return proxy is not None and proxy.reason == "HELPER_NOT_INSTALLED"

        node.until(told)
    finally:
        away.rename(program)
    job = owner.get(job_id)
    assert job.state is JobState.RUNNING
    # What the payload has, not what was made for it and could not be given to it.
    assert job.proxy is not None
    assert (job.proxy.issued, job.proxy.expire_time) == (2, before.expire_time)
    assert [event.reason for event in owner.events(job_id) if event.from_state == event.to_state] == [
        "HELPER_NOT_INSTALLED"
    ]
    assert [path.name for path in pilot.private_files() if path.name == "renewed"] == []
    for place in (node.helper.prefix / "home").glob("*/pilotage-*/work"):
        (place / "go").touch()
    job = node.wait(owner, job_id)
    assert job.result is not None
    assert job.result.outcome is Outcome.OK, pilot.log
    assert "the proxy was not renewed" in pilot.log
    node.nothing_left()


def test_a_cancelled_payload_is_not_renewed_and_leaves_no_key(node: PilotRig) -> None:
    pilot, owner = node.start(), node.owner(0)
    job_id = node.submit(owner, "/bin/sh", "-c", FOREVER)
    node.running(owner, job_id)
    node.until(lambda: "the payload has a new proxy" in pilot.log)
    owner.cancel([job_id])
    assert node.wait(owner, job_id).state is JobState.CANCELLED
    node.nothing_left()
