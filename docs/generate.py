"""Write the pages of docs/ that come from the code's own tables: `make docs`; a test holds page and table together."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from remedies import REMEDIES

from pilotage.reasons import Reason
from pilotage.states import FINAL, LEASED, MOVES, RETRIED, JobState, Outcome

DOCS = Path(__file__).resolve().parent

MEANING = {
    JobState.PENDING: "waits for a dependency or an upload",
    JobState.DEFINED: "complete, not yet accepted by brokerage",
    JobState.ACTIVATED: "may be dispatched",
    JobState.HELD: "may not be dispatched, for a stated reason",
    JobState.SENT: "leased to a pilot that has not reported yet",
    JobState.STARTING: "the pilot prepares it",
    JobState.RUNNING: "the payload runs under its owner's account",
    JobState.HOLDING: "the payload is over, its outputs are being stored",
    JobState.FINISHED: "success",
    JobState.FAILED: "out of attempts, or an error that is not tried again",
    JobState.CANCELLED: "ended by its owner",
    JobState.CLOSED: "ended by the system before it ran",
}

OUTCOMES = {
    Outcome.OK: "the payload ended with exit code 0 and its outputs are stored",
    Outcome.PAYLOAD: "the payload itself failed",
    Outcome.INFRASTRUCTURE: "the worker node, the site or the network failed it",
    Outcome.CREDENTIAL: "the owner's credential could not be had or used; the job is held",
    Outcome.IDENTITY: "the helper refused to become the owner",
    Outcome.LIMIT: "the payload went beyond a limit",
    Outcome.LOST: "the pilot went silent and the lease ended",
    Outcome.KILLED: "ended on request",
}

STATES = """\
# The life of a job

Generated from `pilotage.states` by `make docs`. Server, database check, tests and this page read that one table.

```mermaid
stateDiagram-v2
    [*] --> pending
    [*] --> defined
{diagram}
```

| state | meaning | leased | goes to |
| --- | --- | --- | --- |
{states}

Final is final: no move leaves {final}.

An attempt ends with an outcome. Those marked are tried again while the job has attempts left.

| outcome | when | tried again |
| --- | --- | --- |
{outcomes}
"""

REASONS = """\
# Reason codes

Generated from `pilotage.reasons` by `make docs`. Every refusal has exactly one of these codes: in the reply, the
log, the metric and, as a family, in the exit status of `pilotage`. A code keeps its number and meaning for ever.
"Again" says whether the same request can succeed later without anybody changing anything.

| number | code | exit | again | what it says | what to do |
| --- | --- | --- | --- | --- | --- |
{reasons}
"""


def states_page() -> str:
    """Return docs/states.md."""
    moves = [(source, target) for source, targets in MOVES.items() for target in sorted(targets)]
    diagram = [f"    {source.label} --> {target.label}" for source, target in moves]
    diagram += [f"    {state.label} --> [*]" for state in sorted(FINAL)]
    states = [
        f"| `{state.label}` | {MEANING[state]} | {'yes' if state in LEASED else ''} | "
        f"{', '.join(target.label for target in sorted(MOVES[state])) or 'final'} |"
        for state in JobState
    ]
    outcomes = [f"| {o.name} | {OUTCOMES[o]} | {'yes' if o in RETRIED else ''} |" for o in Outcome]
    return STATES.format(
        diagram="\n".join(diagram),
        states="\n".join(states),
        final=", ".join(f"`{state.label}`" for state in sorted(FINAL)),
        outcomes="\n".join(outcomes),
    )


def reasons_page() -> str:
    """Return docs/reasons.md."""
    remedy = {name: text for text, names in REMEDIES.items() for name in names.split()}
    rows = [
        f"| {reason.value} | `{reason.name}` | {reason.row.exit_code} | {'yes' if reason.row.retry else ''} "
        f"| {reason.row.text.replace('|', chr(92) + '|')} | {remedy[reason.name]} |"
        for reason in Reason
    ]
    return REASONS.format(reasons="\n".join(rows))


PAGES = {"states.md": states_page, "reasons.md": reasons_page}


def main() -> int:
    """Write every page that differs."""
    for name, page in PAGES.items():
        path = DOCS / name
        if not path.exists() or path.read_text() != page():
            path.write_text(page())
            print(f"wrote docs/{name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
