"""The policy of retrievals, as a payload sees it: server, pilot processes, setuid helper and payload, all real."""

from collections.abc import Callable

import pytest

from pilotage.states import JobState, Outcome
from pilotage_server.clock import utc_now
from pilotage_server.jobs import Askers
from pilotage_server.retrieval import RetrievalPolicy
from support.helper_rig import HelperRig
from support.pilot_rig import PilotRig, host, make_node

__all__ = ["host", "make_node"]

pytestmark = pytest.mark.root

LIFE = 15
LIMITED = "1.3.6.1.4.1.3536.1.1.1.9"
SHOW_BOTH = """
serial() { openssl x509 -in "$X509_USER_PROXY" -noout -serial; }
show() { openssl x509 -in "$X509_USER_PROXY" -noout -text | grep -A2 'Proxy Certificate Information' | tail -n 2; }
first=$(serial)
show
while [ "$(serial)" = "$first" ]; do sleep 0.2; done
show
"""


def test_a_payload_and_its_renewal_have_a_proxy_as_the_vos_policy_says(
    rig: HelperRig, make_node: Callable[..., PilotRig]
) -> None:
    rig.grid.voms_host("demo")
    node = make_node(**{"retrieval.vo.demo": {"proxy": "limited", "path_length": 0, "max_lifetime_seconds": LIFE}})
    pilot, owner = node.start(), node.owner(0)
    job_id = node.submit(owner, "/bin/sh", "-c", SHOW_BOTH)
    job = node.wait(owner, job_id)
    assert (job.state, job.reason) == (JobState.FINISHED, ""), pilot.log
    # OpenSSL writes the number in hexadecimal.
    lines = [line.strip() for line in node.printed(owner, job_id).splitlines()]
    assert lines == ["Path Length Constraint: 00", f"Policy Language: {LIMITED}"] * 2
    node.nothing_left()
    assert pilot.stop() == 0


def test_an_attempt_of_a_pilot_that_is_no_target_leaves_the_job_to_another(
    rig: HelperRig, make_node: Callable[..., PilotRig]
) -> None:
    """JobService believes in another policy than CredentialService."""
    rig.grid.voms_host("demo")
    node = make_node(**{"retrieval.vo.demo": {"targets": ["/O=Toy Grid/CN=Robot - other *"]}})
    assert node.server.app is not None
    node.server.app._pilot_desk._askers = Askers(RetrievalPolicy(), utc_now)
    pilot, owner = node.start(), node.owner(0)
    job_id = node.submit(owner, "/bin/true", max_attempts=10)
    node.until(lambda: "TARGET_REFUSED" in pilot.log)
    pilot.stop()
    refused = owner.get(job_id)
    assert refused.state is JobState.ACTIVATED, pilot.log
    assert refused.result is not None
    assert (refused.result.outcome, refused.result.reason) == (Outcome.INFRASTRUCTURE, "TARGET_REFUSED")
    other = node.start("wn2", proxy=str(node.robot("Robot - other pilot")))
    job = node.wait(owner, job_id)
    assert (job.state, job.reason) == (JobState.FINISHED, ""), other.log
    assert other.stop() == 0
