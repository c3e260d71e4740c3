"""What the owners do, by the commands they would type."""

import json
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from journey import accounts
from journey.report import JobLine
from journey.steps import DemoError, say
from journey.world import World

ANALYSIS = Path(__file__).resolve().parent.parent / "analysis"
INPUTS = ("analyse.py", "events.csv")
OUTPUTS = ("histogram.csv", "histogram.svg")
ARGUMENTS = {"alice": ["--log"], "bob": ["--range", "60", "120", "--bins", "60"]}
WAIT_SECONDS = 120


@dataclass(frozen=True)
class Owner:
    """One owner at a shell of their own account."""

    name: str
    dn: str
    world: World

    @property
    def home(self) -> Path:
        """The owner's home."""
        return self.world.homes / self.name

    def run(self, *words: str, show: bool = True, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        """Run a command as the owner, and show it as it would be typed."""
        if show:
            say(f"{self.name}$ {' '.join(words)}")
        return subprocess.run(
            [str(self.world.prefix / "as"), self.name, *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def demand(self, *words: str, show: bool = True, timeout: float = 60) -> str:
        """Run a command that must work; return its output."""
        done = self.run(*words, show=show, timeout=timeout)
        if done.returncode:
            raise DemoError(f"{self.name}$ {' '.join(words)}\nended with {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    def submit(self) -> str:
        """Submit the analysis with its program and data; return the job's id."""
        for name in INPUTS:
            target = self.home / name
            shutil.copyfile(ANALYSIS / name, target)
            target.chmod(0o755 if name.endswith(".py") else 0o644)
            accounts.give(target, self.name)
        words = ["pilotage", "submit", "--name", f"dimuon-{self.name}"]
        words += [word for name in INPUTS for word in ("--input", name)]
        words += [word for name in OUTPUTS for word in ("--output", name)]
        return self.demand(*words, "--", "./analyse.py", "events.csv", *ARGUMENTS[self.name]).strip()

    def wait(self, job_id: str, check: Callable[[], None]) -> None:
        """Wait until the job is over, checking meanwhile; a failed one is told with its log."""
        words = ["pilotage", "wait", job_id, "--timeout", str(WAIT_SECONDS)]
        say(f"{self.name}$ {' '.join(words)}")
        with subprocess.Popen(
            [str(self.world.prefix / "as"), self.name, *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        ) as waiting:
            while True:
                try:
                    _, complaint = waiting.communicate(timeout=1)
                    break
                except subprocess.TimeoutExpired:
                    try:
                        check()
                    except DemoError:
                        waiting.kill()
                        raise
        if waiting.returncode:
            show = self.run("pilotage", "show", job_id, show=False).stdout
            logs = self.run("pilotage", "logs", job_id, show=False).stdout
            raise DemoError(f"job {job_id} of {self.name} did not succeed: {complaint.strip()}\n{show}\n{logs}")

    def fetch(self, job_id: str) -> list[str]:
        """Fetch the outputs into the owner's home; return their paths."""
        target = f"results/{job_id}"
        self.demand("pilotage", "fetch", job_id, "--to", target)
        found = sorted(str(path) for path in (self.home / target).rglob("*") if path.is_file())
        missing = [name for name in OUTPUTS if str(self.home / target / name) not in found]
        if missing:
            raise DemoError(f"job {job_id} of {self.name} brought no {', '.join(missing)}")
        return found

    def collect(self, job_id: str) -> JobLine:
        """Show, read and fetch a finished job; check the payload's own words against the record."""
        # The reply is the CLI's JSON; each field is converted as it is taken out.
        job: dict[str, Any] = json.loads(self.demand("pilotage", "show", job_id, "-o", "json"))
        logs = self.demand("pilotage", "logs", job_id)
        for text in logs.splitlines():
            say(f"    {text}")
        result, usage = job["result"], job["result"]["usage"]
        line = JobLine(
            job_id=job_id,
            owner_dn=str(job["owner_dn"]),
            account=str(result["account"]),
            uid=int(result["uid"]),
            pilot_uid=int(result["pilot_uid"]),
            exit_code=int(result.get("exit_code", 0)),
            wall_seconds=float(usage.get("wall_seconds", 0)),
            cpu_seconds=float(usage.get("cpu_user_seconds", 0)) + float(usage.get("cpu_system_seconds", 0)),
            outputs=self.fetch(job_id),
        )
        check_identity(line, self.dn, logs)
        return line

    def is_refused(self, job_id: str) -> str:
        """Try to see and to fetch somebody else's job; return the refusal, or fail the demo."""
        refusal = ""
        for words in (("show", job_id), ("logs", job_id), ("fetch", job_id, "--to", "stolen")):
            done = self.run("pilotage", *words)
            if done.returncode == 0 or "JOB_NOT_FOUND" not in done.stderr:
                raise DemoError(
                    f"{self.name} was not refused another owner's job: pilotage {' '.join(words)} ended with "
                    f"{done.returncode}: {done.stdout.strip()} {done.stderr.strip()}"
                )
            refusal = done.stderr.strip()
        return refusal


def check_identity(line: JobLine, dn: str, logs: str) -> None:
    """Fail the demo unless record, payload and machine agree on who ran it."""
    said = dict(part.split(": ", 1) for part in logs.splitlines() if ": " in part)
    problems = []
    if line.owner_dn != dn:
        problems.append(f"the record names the owner {line.owner_dn}")
    if line.account not in accounts.POOL or accounts.uid(line.account) != line.uid:
        problems.append(f"the record names {line.account}, uid {line.uid}, which is no pool account")
    if line.pilot_uid != accounts.uid(accounts.PILOT) or line.uid == line.pilot_uid:
        problems.append(f"the pilot's uid is given as {line.pilot_uid}")
    if not said.get("id", "").startswith(f"uid={line.uid}({line.account})"):
        problems.append(f"the payload ran as {said.get('id', 'nobody it would name')}")
    if line.account in accounts.POOL and said.get("home") != accounts.home(line.account):
        problems.append(f"the payload's home was {said.get('home', 'none it would name')}")
    if said.get("dn") != dn:
        problems.append(f"the payload's proxy names {said.get('dn')}")
    if line.exit_code:
        problems.append(f"the payload ended with {line.exit_code}")
    if problems:
        raise DemoError(f"job {line.job_id} of {dn}: " + "; ".join(problems))
