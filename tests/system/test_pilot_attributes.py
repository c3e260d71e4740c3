"""An owner whose proxy has no VOMS attributes, on a site that maps by them: all parts are real."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pilotage.client import Client
from pilotage.states import JobState, Outcome
from pilotage.voms.authority import VomsAuthority
from pilotage.voms.members import AuthorityConfig
from pilotage.x509.files import load_identity
from support.helper_rig import ANALYSIS, POOL
from support.pilot_rig import Pilot, PilotRig, host, make_node
from support.server_rig import OWNER_ROLE

__all__ = ["host", "make_node"]

pytestmark = pytest.mark.root


class Vo:
    """A node whose pilots ask a VO's server for attributes; the first owner is a member, the second is not."""

    def __init__(self, node: PilotRig, folder: Path, **more: object) -> None:
        self.node = node
        grid = node.helper.grid
        server = grid.host("localhost")
        lsc = grid.voms_dir / "demo" / "localhost.lsc"
        grid.voms_host("demo")
        lsc.write_text(f"{server.dn}\n{grid.ca_dn}\n")
        lsc.chmod(0o644)
        self.authority = VomsAuthority(
            AuthorityConfig(
                vo="demo",
                certificate=server.cert_path,
                key=server.key_path,
                ca_dir=grid.ca_dir,
                host="localhost",
                listen="127.0.0.1:0",
                members={node.helper.owners[0].dn: ("/demo", ANALYSIS)},
                **more,  # type: ignore[arg-type]  # the tests name what it takes
            )
        )
        self._vomses = node.helper.prefix / "etc" / "vomses"
        self._vomses.write_text(f'"demo" "localhost" "{self.authority.port}" "{server.dn}" "demo"\n')
        self._vomses.chmod(0o644)
        self._folder = folder

    def owner(self, number: int) -> Client:
        """Return the SDK of an owner with a plain proxy."""
        grid = self.node.helper.grid
        proxy = grid.plain_proxy(self.node.helper.owners[number], self._folder / f"plain{number}.pem")
        return Client(
            self.node.server.target,
            ca_dir=grid.ca_dir,
            identity=load_identity(proxy),
            environ={"HOME": str(self._folder)},
        )

    def pilot(self) -> Pilot:
        """Start a pilot that asks."""
        voms = {"vo": "demo", "fqans": [ANALYSIS], "vomses": str(self._vomses)}
        return self.node.start(voms_dir=str(self.node.helper.grid.voms_dir), voms=voms)


@contextlib.contextmanager
def put_up(make_node: Callable[..., PilotRig], folder: Path, **more: object) -> Iterator[Vo]:
    names = [f"/O=Toy Grid/CN=owner {number}" for number in (1, 2)]
    made = Vo(make_node(roles={"owner": [OWNER_ROLE, *names]}), folder, **more)
    with made.authority, made.node.helper.mapped(f'"{ANALYSIS}" .{POOL}\n'):
        yield made


@pytest.fixture
def vo(make_node: Callable[..., PilotRig], tmp_path: Path) -> Iterator[Vo]:
    with put_up(make_node, tmp_path) as made:
        yield made


SEE = 'openssl x509 -in "$X509_USER_PROXY" -noout -text | grep -c 1.3.6.1.4.1.8005.100.100.5; id -un'


def test_a_payload_gets_the_attributes_that_its_owners_proxy_had_not_and_is_mapped_by_them(vo: Vo) -> None:
    before = len(vo.node.helper.audit())
    pilot = vo.pilot()
    with vo.owner(0) as owner:
        job_id = vo.node.submit(owner, "/bin/sh", "-c", SEE)
        job = vo.node.wait(owner, job_id)
        assert (job.state, job.reason) == (JobState.FINISHED, ""), pilot.log
        assert (job.vo, job.fqan) == ("", "")
        assert job.result is not None
        assert vo.node.printed(owner, job_id).split() == ["1", job.result.account]
    start = next(line for line in vo.node.helper.since(before) if line["event"] == "START")
    assert ANALYSIS in str(start)
    vo.node.nothing_left()
    assert "BEGIN" not in pilot.log


def test_a_job_whose_owner_is_no_member_is_held_and_does_not_run_without(vo: Vo) -> None:
    before = len(vo.node.helper.audit())
    pilot = vo.pilot()
    with vo.owner(1) as owner:
        job_id = vo.node.submit(owner, "/bin/sh", "-c", "echo ran")
        vo.node.until(lambda: owner.get(job_id).state is JobState.HELD)
        job = owner.get(job_id)
        assert job.reason == "VOMS_NOT_MEMBER"
        assert job.result is not None
        assert job.result.outcome is Outcome.CREDENTIAL
        assert vo.node.printed(owner, job_id) == ""
    assert "START" not in {line["event"] for line in vo.node.helper.since(before)}
    vo.node.nothing_left()
    assert pilot.stop() == 0


LIFE = 20
"""Seconds for which the VO's server gives attributes; the proxies live for hours."""
UNTIL_RENEWED = """
digest() { openssl x509 -in "$X509_USER_PROXY" -noout -fingerprint; }
for round in 1 2; do
  first=$(digest)
  while [ "$(digest)" = "$first" ]; do sleep 0.2; done
  openssl x509 -in "$X509_USER_PROXY" -noout -text | grep -c 1.3.6.1.4.1.8005.100.100.5
done
"""


def test_attributes_that_end_before_the_proxy_are_new_before_they_end(
    make_node: Callable[..., PilotRig], tmp_path: Path
) -> None:
    with put_up(make_node, tmp_path, max_lifetime_seconds=LIFE) as vo, vo.owner(0) as owner:
        pilot = vo.pilot()
        job_id = vo.node.submit(owner, "/bin/sh", "-c", UNTIL_RENEWED)
        job = vo.node.wait(owner, job_id, 4 * LIFE)
        assert (job.state, job.reason) == (JobState.FINISHED, ""), pilot.log
        assert vo.node.printed(owner, job_id).split() == ["1", "1"]
        assert job.result is not None
        # Both came while the attributes before them were good, and not one after the other without a pause.
        assert LIFE * 0.5 < job.result.usage.wall_seconds < LIFE * 2
        # The server gave no order: its proxies are good for hours.
        assert pilot.log.count("the payload has a new proxy") == 2
        vo.node.nothing_left()
        assert pilot.stop() == 0
