"""A lease that is reported on for ever: its proxies end with what its job may take, and with some time over."""

from collections.abc import Callable
from pathlib import Path

from pilotage.reasons import Reason
from pilotage.v1 import pilot_pb2
from pilotage.x509.files import load_identity
from pilotage.x509.keys import KeyKind
from pilotage_server.jobs.limits import JobLimits
from support.journey import acquire, delegate, register, retrieve_request, submit
from support.refusals import reason
from support.server_rig import Rig

LONG = {"sent_seconds": 86400, "lease_seconds": 86400}
HOUR = 3600


def test_a_lease_that_outlasts_its_job_by_hours_gets_no_more_tokens(
    make_rig: Callable[..., Rig], alice_proxy: Path, pilot_proxy: Path
) -> None:
    """A pilot ends a payload at its wall time; one that does not would else have the owner's proxies for days."""
    rig = make_rig(leases=LONG, limits={"overtime_seconds": 4 * HOUR})
    owner, pilot = rig.client(alice_proxy), rig.client(pilot_proxy)
    submit(owner, delegate(owner, load_identity(alice_proxy), kind=KeyKind.EC_P256))
    pilot_id = register(pilot, renews=True)
    lease = acquire(pilot, pilot_id)
    pilot.credentials.RetrieveCredential(retrieve_request(lease))
    again = pilot_pb2.RefreshCredentialTokenRequest(pilot_id=pilot_id, lease_id=lease.lease_id)
    report = pilot_pb2.LeaseReport(lease_id=lease.lease_id, phase=pilot_pb2.ATTEMPT_PHASE_RUNNING)
    beat = pilot_pb2.HeartbeatRequest(pilot_id=pilot_id, reports=[report])
    assert JobLimits().default_wall_seconds == HOUR
    rig.clock.turn(5 * HOUR - 60)
    pilot.pilots.RefreshCredentialToken(again)
    rig.clock.turn(120)
    for _ in range(2):
        (answer,) = pilot.pilots.Heartbeat(beat).answers
        assert answer.order != pilot_pb2.LEASE_ORDER_LOST
        assert reason(pilot.pilots.RefreshCredentialToken, again) is Reason.LEASE_EXPIRED
