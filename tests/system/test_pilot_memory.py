"""A job is bound to the memory that it asks for, by the real helper's control groups."""

import pytest

from pilotage.reasons import Reason
from pilotage.states import JobState, Outcome
from support.groups import has
from support.pilot_rig import PilotRig, host, make_node, node

__all__ = ["host", "make_node", "node"]

MIB = 1 << 20
pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(not has("memory"), reason="this machine hands on no memory controller"),
]


def eat(mebibytes: int) -> list[str]:
    """Return a command that takes so much memory and says so."""
    return ["/usr/bin/python3", "-c", f"print(len(bytearray({mebibytes * MIB})))"]


def test_a_job_that_takes_more_memory_than_it_asked_for_is_over_its_limit(node: PilotRig) -> None:
    pilot, client = node.start(), node.owner(0)
    greedy = node.submit(client, *eat(400), memory_bytes=200 * MIB)
    modest = node.submit(client, *eat(100), memory_bytes=200 * MIB)
    free = node.submit(client, *eat(400))
    # Less than the wrapper itself needs is no fault of the node's.
    tiny = node.submit(client, "/bin/true", memory_bytes=1)
    job = node.wait(client, greedy)
    assert job.result is not None
    assert (job.state, job.result.outcome) == (JobState.FAILED, Outcome.LIMIT), pilot.log
    assert (job.result.reason, job.attempt) == (Reason.LIMIT_MEMORY.name, 1)
    for name in (modest, free, tiny):
        job = node.wait(client, name)
        assert (job.state, job.message) == (JobState.FINISHED, ""), pilot.log
    bounds = {str(line["job_id"]): line.get("memory_bytes") for line in node.helper.audit() if line["event"] == "START"}
    wanted = {greedy: 200 * MIB, modest: 200 * MIB, free: None, tiny: 64 * MIB}
    assert {name: bounds[name] for name in wanted} == wanted
    node.nothing_left()


def test_the_sites_own_bound_is_never_raised(node: PilotRig) -> None:
    with node.helper.configured(f"\n[isolation]\nmemory_bytes = {150 * MIB}"):
        client, _ = node.owner(0), node.start()
        job = node.wait(client, node.submit(client, *eat(400), memory_bytes=1024 * MIB))
        assert job.result is not None
        assert job.result.reason == Reason.LIMIT_MEMORY.name
        assert node.helper.audit()[-1]["memory_bytes"] == 150 * MIB


def test_a_node_that_cannot_bound_refuses_or_says_that_it_does_not(node: PilotRig) -> None:
    with node.helper.configured("\n[isolation]\ncgroup_parent = /pilotage-no-such-group"):
        client, pilot = node.owner(0), node.start()
        job_id = node.submit(client, "/bin/true", memory_bytes=200 * MIB, max_attempts=1)
        job = node.wait(client, job_id)
        assert job.result is not None
        assert (job.result.outcome, job.result.reason) == (Outcome.INFRASTRUCTURE, Reason.CGROUP_FAILED.name)
        pilot.stop()
        node.start("wn2", bound_memory=False)
        job = node.wait(client, node.submit(client, "/bin/true", memory_bytes=200 * MIB))
        assert job.state is JobState.FINISHED
