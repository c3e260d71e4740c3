"""Jobs, leases, brokerage, sandboxes and logs.

The desks are put together like this; every constructor takes what it stands on and nothing else:

    database = Database.open(state_dir / "jobs.sqlite", "jobs")
    notices = Notices()
    logs = LogStore(state_dir / "logs", limits)
    wrapping = KeyWrap(wrap_key)                                    # 32 bytes, as a Secret
    askers = Askers(policy, clock)                                  # a RetrievalPolicy
    job_desk = JobDesk(database, keeper, logs, wrapping, notices, askers, limits, clock)
    credential_desk = CredentialDesk(database, keeper, wrapping, notices, limits, clock)
    pilot_desk = PilotDesk(database, logs, wrapping, token_keys, notices, limits, times, askers, clock)
    sandboxes = SandboxStore(database, state_dir / "sandboxes", limits, clock)
    await pilot_desk.start()                                        # before the first call is served
    sweeper = asyncio.create_task(pilot_desk.run())                 # until cancelled
    server.add(JobServicer(job_desk, credential_desk, sandboxes), PilotServicer(pilot_desk))

`keeper` is any CredentialDirectory; `pilot_desk` is the LeaseDirectory that CredentialService asks, and
LeaseProxies(database, notices, clock) the ProxyBook that it tells of what it issued.
"""

from pilotage_server.jobs.askers import Askers
from pilotage_server.jobs.credential_desk import CredentialDesk
from pilotage_server.jobs.credential_facts import CredentialDirectory
from pilotage_server.jobs.job_desk import JobDesk
from pilotage_server.jobs.lease_proxies import LeaseProxies
from pilotage_server.jobs.limits import JobLimits, LeaseTimes
from pilotage_server.jobs.logs import LogStore
from pilotage_server.jobs.notices import Notices
from pilotage_server.jobs.pilot_desk import PilotDesk
from pilotage_server.jobs.sandboxes import SandboxStore
from pilotage_server.jobs.silence import SilentPilots
from pilotage_server.jobs.wrapping import KeyWrap

__all__ = [
    "Askers",
    "CredentialDesk",
    "CredentialDirectory",
    "JobDesk",
    "JobLimits",
    "KeyWrap",
    "LeaseProxies",
    "LeaseTimes",
    "LogStore",
    "Notices",
    "PilotDesk",
    "SandboxStore",
    "SilentPilots",
]
