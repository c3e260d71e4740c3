"""Clocks an hour apart: the owner's, the service's, the worker node's. Nothing is lost, and each is told why."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from toygrid import Identity, ToyGrid

from pilotage.states import Outcome
from pilotage.v1 import job_pb2, pilot_pb2
from pilotage.x509.files import load_identity
from pilotage.x509.keys import KeyKind, make_key
from pilotage_pilot.config import PilotConfig
from pilotage_pilot.outcomes import judge_proxy
from pilotage_pilot.proxies import ProxyRefused, check_proxy
from support.journey import acquire, delegate, register, retrieve_request, submit
from support.server_rig import Rig
from support.shell import Shell

HOUR = 3600
EC = KeyKind.EC_P256


def test_a_node_an_hour_behind_the_service_uses_no_proxy_and_its_job_goes_elsewhere(
    rig: Rig, grid: ToyGrid, alice_proxy: Path, pilot_proxy: Path, tmp_path: Path
) -> None:
    """The pilot's check is the real one, by this machine's clock; the service's is ahead."""
    rig.clock.turn(HOUR)
    owner, pilot = rig.client(alice_proxy), rig.client(pilot_proxy)
    job_id = submit(owner, delegate(owner, load_identity(alice_proxy), kind=EC))
    pilot_id = register(pilot)
    lease, key = acquire(pilot, pilot_id), make_key(EC)
    answer = pilot.credentials.RetrieveCredential(retrieve_request(lease, key))
    chain = [x509.load_der_x509_certificate(der) for der in answer.chain]
    config = PilotConfig(rig.target, grid.ca_dir, tmp_path, tmp_path, "TOY")
    with pytest.raises(ProxyRefused) as refused:
        check_proxy(chain, key, lease.owner_dn, config)
    verdict = judge_proxy(refused.value.error)
    assert verdict.blames_node
    assert (verdict.result.outcome, verdict.result.reason) == (Outcome.INFRASTRUCTURE, "CERTIFICATE_NOT_YET_VALID")
    assert re.search(r"begins in 3[0-9]{3} seconds", verdict.result.message)
    result = job_pb2.AttemptResult(
        outcome=job_pb2.OUTCOME_INFRASTRUCTURE, reason=verdict.result.reason, message=verdict.result.message
    )
    pilot.pilots.FinishJob(pilot_pb2.FinishJobRequest(pilot_id=pilot_id, lease_id=lease.lease_id, result=result))
    job = owner.jobs.GetJob(job_pb2.GetJobRequest(job_id=job_id)).job
    assert job.state == job_pb2.JOB_STATE_ACTIVATED
    assert acquire(pilot, pilot_id).attempt == 2


def test_an_owner_whose_clock_is_an_hour_ahead_is_told_and_nothing_is_stored(
    make_rig: Callable[..., Rig], alice: Identity, tmp_path: Path
) -> None:
    """Their certificate is older than an hour, so they can log in; the proxy that they sign begins in the future."""
    both = tmp_path / "both.pem"
    both.write_bytes(alice.cert_path.read_bytes() + alice.key_path.read_bytes())
    both.chmod(0o600)
    rig = make_rig(roles={"owner": [alice.dn]})
    shell = Shell(rig, both, tmp_path / "home")
    # The toy grid's certificates begin an hour before they are made.
    rig.clock.turn(60 - HOUR)
    for words in (("credential", "delegate"), ("submit", "--", "/bin/true")):
        done = shell.run(*words)
        assert (done.code, done.out) == (4, "")
        (line,) = done.err.splitlines()
        assert re.match(r"pilotage: CERTIFICATE_NOT_YET_VALID: .* begins in 3[0-9]{3} seconds", line), line
    assert shell.ok("credential", "list") == ""
    assert "s ahead of the server" in shell.run("doctor").out
    rig.clock.turn(HOUR - 60)
    assert shell.run("submit", "--", "/bin/true").code == 0


def test_an_owner_whose_clock_is_an_hour_behind_is_served(rig: Rig, alice_proxy: Path, tmp_path: Path) -> None:
    rig.clock.turn(HOUR)
    shell = Shell(rig, alice_proxy, tmp_path / "home")
    done = shell.run("submit", "--time", "1h", "--", "/bin/true")
    assert done.code == 0, done.err
    assert "behind the server" in shell.run("doctor").out


def test_a_service_whose_clock_was_an_hour_ahead_has_lost_no_credential(
    rig: Rig, alice_proxy: Path, pilot_proxy: Path
) -> None:
    """Its housekeeping ran meanwhile; what seemed to have ended is of use again once the clock is right.

    The credential lives for somewhat more than an hour, the least that the usual job of an hour needs.
    """
    owner, pilot = rig.client(alice_proxy), rig.client(pilot_proxy)
    delegated = delegate(owner, load_identity(alice_proxy), kind=EC, lifetime_seconds=HOUR + 700)
    rig.clock.turn(HOUR + 700)
    rig.call(lambda app: app.prune())
    rig.clock.turn(-HOUR - 700)
    submit(owner, delegated)
    pilot_id = register(pilot)
    assert pilot.credentials.RetrieveCredential(retrieve_request(acquire(pilot, pilot_id))).chain
