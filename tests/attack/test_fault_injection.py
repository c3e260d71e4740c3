"""Every system call of the helper fails once: no payload that is not right, and nothing is left (checklist D1)."""

import errno
import pwd
from collections.abc import Iterator

import pytest

from support.helper_rig import VERIFIER, HelperRig
from support.injection import Fault, Injector, numbers

pytestmark = pytest.mark.root
ERRORS = (errno.ENOSYS, errno.EPERM, errno.EAGAIN, errno.EMFILE)
# What the helper asks for before or instead of the step that needs privilege: a file, a record, an account.
NOT_AUTHORISED = {
    *("CALLER_NOT_ALLOWED", "ACCOUNT_UNKNOWN", "ACCOUNT_IN_USE", "HOME_UNUSABLE"),
    *("VERIFIER_FAILED", "VERIFIER_RECORD", "MAPPER_FAILED", "MAPPER_RECORD"),
    *("MAP_FILE_UNUSABLE", "POOL_UNUSABLE", "POOL_LEASE_CONFLICT"),
}
CALLERS_MISTAKE = {"PROXY_FILE_UNUSABLE", "COMMAND_UNUSABLE", "TARGET_PROXY_UNUSABLE", "HELPER_USAGE"}


@pytest.fixture(params=["off", "required"])
def injector(rig: HelperRig, request: pytest.FixtureRequest) -> Iterator[Injector]:
    """The helper with its leases at rest, without and with namespaces."""
    with rig.configured(change=lambda text: f"{text}\n[isolation]\nnamespaces = {request.param}\n"):
        made = Injector(rig)
        done = made.run()
        if done.code == 97:
            pytest.skip("the kernel has no seccomp notification")
        if done.reason == "ISOLATION_FAILED":
            pytest.skip("this machine has no namespaces")
        assert (done.code, done.out) == (0, "right\n")
        yield made


def wrong(fault: Fault) -> list[str]:
    """What must never be, whatever fails."""
    done, found = fault.done, []
    if done.out not in ("", "right\n"):
        found.append(f"a payload that is not right: {done.out!r}")
    if fault.ran and "START" not in fault.events:
        found.append("a payload that the log does not know")
    if not fault.ran and done.code != 202:
        known = {126: {"COMMAND_UNUSABLE"}, 201: CALLERS_MISTAKE, 203: NOT_AUTHORISED}.get(done.code, set())
        if done.reason not in known and not (done.code == 201 and "HELPER_USAGE" in done.err):
            found.append(f"code {done.code} {done.reason}")
    # The front may lose sight of a run that goes on to its end.
    if fault.ran and done.code != 0 and not (done.code == 202 and fault.call.startswith("0.")):
        found.append(f"the payload ran, and the code is {done.code} {done.reason}")
    if fault.events not in ((), ("REFUSED",), ("START", "END")) and done.reason != "AUDIT_UNAVAILABLE":
        found.append(f"log {fault.events}")
    if fault.at_once and done.code == 0 and done.reason != "CLEANUP_INCOMPLETE" and "unlinkat" not in fault.call:
        found.append("something is left, and nobody said so")
    if fault.in_the_end:
        found.append("something is left for ever")
    if not fault.links <= {1, 2}:
        found.append(f"leases with {fault.links} links")
    return found


# A run for each call of a run: minutes on a busy machine.
@pytest.mark.timeout(1500)
def test_whichever_call_fails_nothing_goes_wrong_and_nothing_is_left(injector: Injector) -> None:
    places = injector.places()
    assert len(places) > 100
    found = {}
    for n, place in enumerate(places):
        fault = injector.fault(place.where, ERRORS[n % len(ERRORS)])
        if problems := wrong(fault):
            found[fault.call] = problems
    assert found == {}


PRIVILEGED = [
    *("setgroups", "setresgid", "setresuid", "capset", "prctl", "chdir", "fchdir", "setsid", "setpgid"),
    *("socketpair", "clone", "clone3", "pipe2", "close_range", "dup3", "execve", "signalfd4", "getrandom"),
    *("mkdirat", "linkat", "flock", "keyctl", "pidfd_open", "pidfd_send_signal", "memfd_create", "dup2"),
]
# A call that a kernel may lack, or a container may bar, has another way; the run is a whole one.
OTHER_WAY = {
    ("close_range", errno.ENOSYS),
    ("clone3", errno.ENOSYS),
    ("keyctl", errno.ENOSYS),
    ("keyctl", errno.EPERM),
    *(("pidfd_send_signal", error) for error in ERRORS),
    *(("pidfd_open", error) for error in ERRORS),
}
# What fails here is the account's home.
OTHER_CODE = {"fchdir": 203}


@pytest.fixture
def plain(rig: HelperRig) -> Injector:
    """Without namespaces."""
    made = Injector(rig)
    if made.run().code == 97:
        pytest.skip("the kernel has no seccomp notification")
    return made


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: errno.errorcode[error])
@pytest.mark.parametrize("name", PRIVILEGED)
def test_a_privileged_call_that_always_fails_is_202_or_has_another_way(plain: Injector, name: str, error: int) -> None:
    if (name, error) == ("flock", errno.EAGAIN):
        error = errno.EBADF  # EAGAIN is what a lock says that another one holds; it is waited for
    fault = plain.fault(str(numbers()[name]), error)
    assert name in fault.call
    assert wrong(fault) == []
    if (name, error) in OTHER_WAY:
        assert (fault.done.code, fault.done.out) == (0, "right\n")
    else:
        assert (fault.done.code, fault.done.out) == (OTHER_CODE.get(name, 202), "")
    assert fault.at_once == 0


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: errno.errorcode[error])
def test_a_switch_to_any_account_that_fails_runs_nothing(plain: Injector, error: int) -> None:
    pilot, verifier = plain.rig.pilot.pw_uid, pwd.getpwnam(VERIFIER).pw_uid
    account = int(str(plain.run().line("start")["uid"]))
    for name, ids in (("setresuid", (pilot, verifier, account, 0)), ("setresgid", (0,))):
        for who in ids:
            fault = plain.fault(f"{numbers()[name]}:0={who}", error)
            assert (name in fault.call, fault.ran, wrong(fault)) == (True, False, []), who
            # Who cannot become the account cannot clean up after it either; the next run could.
            assert fault.at_once == (1 if who == account else 0)
            assert fault.done.code == 202
