"""Kernel, control groups, namespaces, privileges: what the machine gives."""

import ctypes
import re
from collections.abc import Iterator
from pathlib import Path

import msgspec

from pilotage_helper.doctor.finding import Finding, broken, ok, weaker
from pilotage_helper.site import Demands

PROC = Path("/proc")
NEEDS = ((5, 3), "pidfd_open: processes cannot be signalled safely, so the helper runs nothing")
WISHES = (
    ((5, 7), "no process can be born in its control group: it is moved there while it waits"),
    ((5, 8), "no namespaces: they are entered by pidfd"),
    ((5, 9), "close_range: descriptors are closed one by one"),
    ((5, 13), "Landlock: verifier and mapper can read any file that their uid can, not only what they need"),
    ((5, 14), "cgroup.kill: payloads are found by their ancestry and their uid instead of by a group"),
)
CAPABILITIES = {5: "CAP_KILL", 6: "CAP_SETGID", 7: "CAP_SETUID", 8: "CAP_SETPCAP", 0: "CAP_CHOWN"}
CAP_SYS_ADMIN = 21
LANDLOCK_CREATE_RULESET, LANDLOCK_VERSION = 444, 1


def kernel(release: str) -> Iterator[Finding]:
    """Judge a kernel by its number."""
    match = re.match(r"(\d+)\.(\d+)", release)
    number = (int(match[1]), int(match[2])) if match else (0, 0)
    if number < NEEDS[0]:
        yield broken("kernel", f"Linux {release}", f"Older than 5.3 and without {NEEDS[1]}.")
        return
    lacking = [text for since, text in WISHES if number < since]
    if lacking:
        yield weaker("kernel", f"Linux {release}", "Without " + "; without ".join(lacking) + ".")
    else:
        yield ok("kernel", f"Linux {release}")


def landlock() -> Finding:
    """Ask the running kernel, which may have it built but not switched on."""
    libc = ctypes.CDLL(None, use_errno=True)
    version = libc.syscall(LANDLOCK_CREATE_RULESET, None, 0, LANDLOCK_VERSION)
    if version > 0:
        return ok("Landlock", f"version {version}")
    means = "Verifier and mapper can read any file that their uid can. Their seccomp filters hold all the same."
    return weaker("Landlock", "not switched on", means)


class Groups(msgspec.Struct, frozen=True):
    """Where a payload's control groups would be."""

    unified: bool
    unified_controllers: frozenset[str]
    old_controllers: frozenset[str]

    @property
    def controllers(self) -> frozenset[str]:
        """Return every controller that can bound a payload."""
        return self.unified_controllers | self.old_controllers


def groups(mounts: str, own: str, root: Path = Path("/")) -> Groups:
    """Read mountinfo and /proc/self/cgroup as the helper does."""
    unified, old = "", set()
    for line in mounts.splitlines():
        head, _, tail = line.partition(" - ")
        kind, _, options = tail.partition(" ")
        if kind == "cgroup2" and not unified:
            unified = head.split()[4]
        elif kind == "cgroup":
            old |= set(options.split()[-1].split(","))
    paths = dict(line.split(":", 2)[1:] for line in own.splitlines() if line.count(":") >= 2)
    listed = {name for names in paths for name in names.split(",")}
    handed_on = root / unified.lstrip("/") / paths.get("", "/").lstrip("/") / "cgroup.subtree_control"
    try:
        controllers = frozenset(handed_on.read_text().split()) if unified else frozenset()
    except OSError:
        controllers = frozenset()
    return Groups(bool(unified), controllers, frozenset(old & listed))


def control_groups(found: Groups, demands: Demands) -> Iterator[Finding]:
    """Compare what there is with what the configuration wants."""
    subject = "control groups"
    if found.unified:
        yield ok(subject, "version 2 is mounted: payloads are tracked and killed by group")
    elif demands.cgroup == "required":
        yield broken(subject, "version 2 is not mounted", "cgroup = required: every run is refused (CGROUP_FAILED).")
    else:
        means = "Payloads are found by their ancestry and, when no other run is on the account, by their uid."
        yield weaker(subject, "version 2 is not mounted", means)
    for controller, bound, text in (
        ("memory", demands.memory_bytes, "No peak memory in the log"),
        ("pids", demands.pids, "No peak number of processes in the log"),
        ("cpu", demands.cpu_percent, "No bound on CPU time"),
    ):
        subject = f"controller {controller}"
        if controller in found.controllers or (demands.cgroup_parent and found.unified):
            where = 2 if controller in found.unified_controllers else 1
            text = f"cgroup_parent {demands.cgroup_parent}" if demands.cgroup_parent else f"version {where}"
            yield ok(subject, text)
        elif bound:
            means = f"{bound} is configured as its bound, so every run is refused (CGROUP_FAILED)."
            yield broken(subject, "not handed on to the groups of payloads", means)
        else:
            means = f"{text}, and no bound can be set. A cgroup_parent with delegated controllers would cure it."
            yield weaker(subject, "not handed on to the groups of payloads", means)


def namespaces(bounding: int, demands: Demands, folder: Path = PROC / "self" / "ns") -> Finding:
    """Tell whether a setuid program started from here could make namespaces, and whether it is to."""
    lacking = [name for name in ("pid", "mnt", "ipc") if not (folder / name).is_symlink()]
    reason = f"the kernel has no {', '.join(lacking)} namespace" if lacking else ""
    if not bounding >> CAP_SYS_ADMIN & 1:
        reason = "CAP_SYS_ADMIN is not in the bounding set, as in an unprivileged container"
    subject = "namespaces"
    if reason and demands.namespaces == "required":
        return broken(subject, reason, "namespaces = required: every run is refused (ISOLATION_FAILED).")
    exposed = (
        "A payload sees all processes of the machine and shares /tmp, /var/tmp, /dev/shm and System V objects; "
        "after the death of its monitor it lives until the next cleanup."
    )
    if reason:
        return weaker(subject, reason, exposed)
    if demands.namespaces == "off":
        return weaker(subject, "possible, but off in the configuration", exposed)
    return ok(subject, f"possible; namespaces = {demands.namespaces}")


def privileges(status: str, uid_map: str) -> Iterator[Finding]:
    """Judge from /proc/self/status whether a setuid program started by this process gets its privilege."""
    fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    bounding = int(fields.get("CapBnd", "0").strip(), 16)
    lacking = [name for bit, name in sorted(CAPABILITIES.items()) if not bounding >> bit & 1]
    if uid_map.split() != ["0", "0", "4294967295"]:
        means = "The helper refuses to run here (HELPER_USER_NAMESPACE): uid 0 is not the machine's root."
        yield broken("user namespace", "this is not the machine's own", means)
    if fields.get("NoNewPrivs", "").strip() == "1":
        means = "A setuid bit has no effect (HELPER_NO_NEW_PRIVS). Whatever started this process has set it."
        yield broken("no_new_privs", "set", means)
    if lacking:
        yield broken(
            "capabilities", f"{', '.join(lacking)} cannot be had here", "The helper refuses (HELPER_PRIVILEGE)."
        )
    else:
        yield ok("capabilities", "a setuid program can have what the helper needs")
    if fields.get("Seccomp", "0").strip() != "0":
        means = "A system call that it denies makes a run fail closed, with the call's name in the reason."
        yield weaker("seccomp", "a filter is set on this process", means)
