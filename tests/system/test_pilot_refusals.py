"""What a pilot, a node or a payload may not do, through real parts; each refusal has its reason."""

import signal
from collections.abc import Callable
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from pilotage.jobs import LogStream
from pilotage.states import JobState, Outcome
from pilotage.x509.files import load_identity
from pilotage.x509.proxies import sign_proxy
from pilotage.x509.requests import check_request
from pilotage_server.clock import utc_now
from pilotage_server.credentials.issuing import IssuedProxy, ProxyIssuer, Wanted
from support.helper_rig import ANALYSIS, POOL
from support.pilot_rig import PilotRig, host, make_node, node
from support.server_rig import PILOT_ROLE

__all__ = ["host", "make_node", "node"]

pytestmark = pytest.mark.root


def test_an_owner_without_an_account_is_refused_and_not_run_as_the_pilot(node: PilotRig) -> None:
    owner = node.owner(0)
    with node.helper.mapped(f'"/O=Toy Grid/CN=somebody else" .{POOL}\n'):
        node.start(max_idle_seconds=60)
        job = node.wait(owner, node.submit(owner, "/usr/bin/id"))
    assert job.result is not None
    assert (job.state, job.result.outcome, job.reason) == (JobState.FAILED, Outcome.IDENTITY, "NO_MAPPING")
    assert (job.result.account, job.result.uid) == ("", 0)
    assert node.printed(owner, job.job_id) == ""
    assert "NO_MAPPING" in node.printed(owner, job.job_id, LogStream.STDERR)


def test_a_node_whose_helper_broke_is_left_after_some_failures_and_the_job_goes_elsewhere(node: PilotRig) -> None:
    owner = node.owner(0)
    pilot = node.start(slots=1, max_node_failures=2)
    node.until(lambda: "registered as" in pilot.log)
    with node.helper.configured(change=lambda text: text.replace("min_uid", "no_such_key")):
        job_id = node.submit(owner, "/bin/true", max_attempts=5)
        assert pilot.wait() == 65
        again = node.start("wn2")
        assert again.wait() == 65
        assert "HELPER_CONFIG_INVALID" in again.log
    assert owner.get(job_id).state is JobState.ACTIVATED
    node.start("wn3", slots=1)
    job = node.wait(owner, job_id)
    assert (job.state, job.attempt) == (JobState.FINISHED, 3)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda rig: rig.helper.program.chmod(0o755), "mode 4711"),
        (lambda rig: rig.helper.program.rename(rig.helper.program.with_name("away")), "No such file"),
        (lambda rig: rig.wrapper.chmod(0o666), "writable by nobody else"),
        (lambda rig: rig.helper.config.unlink(), "HELPER_CONFIG_UNUSABLE"),
    ],
    ids=["no setuid bit", "no helper", "open wrapper", "no configuration"],
)
def test_a_pilot_takes_no_job_on_a_node_that_fails_the_probe(
    node: PilotRig, spoil: Callable[[PilotRig], object], says: str
) -> None:
    owner = node.owner(0)
    job_id = node.submit(owner, "/bin/true")
    before = node.helper.config.read_text()
    try:
        spoil(node)
        pilot = node.start()
        assert pilot.wait() == 65
        assert "HELPER_PROBE_FAILED" in pilot.log
        assert says in pilot.log
    finally:
        away = node.helper.program.with_name("away")
        if away.exists():
            away.rename(node.helper.program)
        node.helper.program.chmod(0o4711)
        node.wrapper.chmod(0o644)
        node.helper.configure(text=before)
    assert owner.get(job_id).state is JobState.ACTIVATED


def test_a_site_that_bounds_the_life_of_proxies_need_not_bound_its_pilots(node: PilotRig) -> None:
    for bound in ("max_proxy_lifetime_seconds = 60", "max_voms_lifetime_seconds = 60"):
        with node.helper.configured(change=lambda text, line=bound: text.replace("[helper]", f"[helper]\n{line}")):  # type: ignore[misc]
            pilot = node.start(arguments=["--probe"])
            assert pilot.wait() == 0, pilot.log


def test_a_probe_of_a_good_node_says_what_it_offers(node: PilotRig) -> None:
    pilot = node.start(arguments=["--probe"])
    assert pilot.wait() == 0
    assert "Offer(site='TOY'" in pilot.log


def test_a_pilot_without_the_role_is_refused(node: PilotRig) -> None:
    out = node.helper.prefix / "proxies" / "no-role.proxy"
    node.helper.grid.voms_proxy(node.helper.owners[2], out, fqans=(ANALYSIS,))
    pilot = node.start(proxy=str(node.helper.give(out)))
    assert pilot.wait() == 68
    assert "ROLE_REQUIRED" in pilot.log


def test_a_second_pilot_in_the_same_workdir_is_refused(node: PilotRig) -> None:
    first = node.start()
    node.until(lambda: "registered as" in first.log)
    second = node.start()
    assert second.wait() == 66
    assert "another pilot works in it" in second.log
    assert first.stop() == 0


@pytest.mark.parametrize("change", [{"switch": "never"}, {"switch": "optional"}, {"sloots": 2}, {"workdir": "here"}])
def test_a_configuration_with_another_switch_or_a_typo_is_refused(node: PilotRig, change: dict[str, object]) -> None:
    pilot = node.start(**change)  # type: ignore[arg-type]  # settings of the pilot
    assert pilot.wait() == 2
    assert "CONFIG_INVALID" in pilot.log


SPY = """#!/bin/sh
pilot=$(ps -o pid= -u {pilot} | tr '\\n' ' ')
for pid in $pilot; do
  for file in environ maps mem fd/0; do
    # The empty maps of a dead process that nobody has waited for can be opened by all.
    [ "$(cat "/proc/$pid/$file" 2>/dev/null | wc -c)" != 0 ] && echo "READ $file"
  done
  readlink "/proc/$pid/cwd" >/dev/null && echo "READ cwd"
  kill -0 "$pid" 2>/dev/null && echo "SIGNALLED $pid"
  kill -9 "$pid" 2>/dev/null
done
ls {workdir} >/dev/null 2>&1 && echo "LISTED workdir"
cat {workdir}/attempts/*/proxy {proxy} >/dev/null 2>&1 && echo "READ proxy"
echo "pilots: $pilot"
"""


def test_a_payload_reaches_neither_the_pilots_process_nor_its_files(node: PilotRig) -> None:
    pilot = node.start()
    owner = node.owner(0)
    spy = SPY.format(pilot=node.helper.pilot.pw_name, workdir=pilot.workdir, proxy=node.robot())
    job = node.wait(owner, node.submit(owner, "./spy.sh", inputs={"spy.sh": spy}))
    printed = node.printed(owner, job.job_id)
    assert job.state is JobState.FINISHED
    assert str(pilot.process.pid) in printed.split()
    assert [line for line in printed.splitlines() if not line.startswith("pilots:")] == []
    assert pilot.process.poll() is None


KILL_WRAPPER = "ppid=$(cut -d' ' -f4 /proc/$$/stat); kill -{number} $ppid; sleep 1; echo still here"


def test_a_payload_that_kills_its_wrapper_fails_itself_alone(node: PilotRig) -> None:
    pilot = node.start(max_node_failures=1)
    owner = node.owner(0)
    job = node.wait(owner, node.submit(owner, "/bin/sh", "-c", KILL_WRAPPER.format(number=9)))
    assert job.result is not None
    assert (job.state, job.result.outcome, job.reason) == (JobState.FAILED, Outcome.PAYLOAD, "WRAPPER_PROTOCOL")
    node.nothing_left()
    assert pilot.process.poll() is None


def test_a_payload_that_stops_its_wrapper_is_ended_at_its_wall_time(node: PilotRig) -> None:
    pilot = node.start(term_grace_seconds=12)
    owner = node.owner(0)
    script = KILL_WRAPPER.format(number=int(signal.SIGSTOP))
    job = node.wait(owner, node.submit(owner, "/bin/sh", "-c", script, wall_seconds=1))
    assert (job.state, job.reason) == (JobState.FAILED, "LIMIT_WALL_TIME"), pilot.log
    node.nothing_left()


def test_an_owners_cancelled_credential_holds_the_job_and_says_why(node: PilotRig) -> None:
    owner = node.owner(0)
    job_id = node.submit(owner, "/bin/true")
    owner.credentials.destroy(owner.get(job_id).credential_id)
    node.start()
    node.until(lambda: owner.get(job_id).state is JobState.HELD)
    assert owner.get(job_id).reason.startswith("CREDENTIAL_")


def test_a_proxy_of_somebody_else_than_the_jobs_owner_is_not_run(
    node: PilotRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = node.owner(0)
    out = node.helper.prefix / "proxies" / "another.proxy"
    node.helper.grid.voms_proxy(node.helper.owners[1], out, fqans=(ANALYSIS,))
    another = load_identity(out)

    async def issue(_issuer: object, _caller: object, wanted: Wanted, *, renewal: bool) -> IssuedProxy:
        now, hour = utc_now(), timedelta(hours=1)
        proxy = sign_proxy(another.chain, another.key, check_request(wanted.request), lifetime=hour, now=now)
        return IssuedProxy(tuple(c.public_bytes(Encoding.DER) for c in (proxy, *another.chain)), now + hour)

    monkeypatch.setattr(ProxyIssuer, "issue", issue)
    before = len(node.helper.audit())
    pilot = node.start(voms_dir=str(node.helper.grid.voms_dir))
    job_id = node.submit(owner, "/bin/sh", "-c", "echo ran")
    node.until(lambda: "DELEGATION_WRONG_OWNER" in pilot.log)
    node.until(lambda: bool(owner.get(job_id).reason))
    job = owner.get(job_id)
    assert (job.state, job.reason) == (JobState.HELD, "DELEGATION_WRONG_OWNER")
    assert f"proxy of {subject(1)} for a job of {subject(0)}" in pilot.log
    assert "CREDENTIAL DELEGATION_WRONG_OWNER" in pilot.log
    assert {line["event"] for line in node.helper.since(before)} == {"MAP"}
    assert node.printed(owner, job_id) == ""
    node.nothing_left()


def subject(number: int) -> str:
    """Return an owner's DN."""
    return f"/O=Toy Grid/CN=owner {number + 1}"


def test_a_pilots_own_proxy_does_not_serve_for_a_payload(node: PilotRig) -> None:
    owner = node.owner(0)
    node.start()
    script = 'openssl x509 -in "$X509_USER_PROXY" -noout -issuer; grep -c BEGIN "$X509_USER_PROXY"'
    job = node.wait(owner, node.submit(owner, "/bin/sh", "-c", script))
    printed = node.printed(owner, job.job_id)
    assert "owner 1" in printed
    assert "Robot" not in printed
    assert PILOT_ROLE not in printed
