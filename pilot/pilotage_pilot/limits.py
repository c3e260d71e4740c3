"""What a running payload uses, seen from outside.

The pilot reads /proc of the helper's process tree: good enough for a heartbeat, whose numbers are for people. The
numbers that are kept come from the helper at the end. Wall time is enforced by `payload`; memory and
disk are the business of the helper's cgroup, since sums of resident sizes count shared pages many times.
"""

import time

import psutil

from pilotage_pilot.lease import Usage


class Meter:
    """Measures one payload since its start."""

    def __init__(self, front_pid: int) -> None:
        self._front_pid = front_pid
        self._begun = time.monotonic()
        self._peak = 0
        self._user = 0.0
        self._system = 0.0

    def read(self) -> Usage:
        """Return usage so far; what cannot be read any more keeps its last value."""
        user = system = 0.0
        resident = 0
        try:
            tree = psutil.Process(self._front_pid).children(recursive=True)
        except psutil.Error:
            tree = []
        for process in tree:
            try:
                with process.oneshot():
                    times, memory = process.cpu_times(), process.memory_info()
            except psutil.Error:
                continue
            user += times.user + times.children_user
            system += times.system + times.children_system
            resident = max(resident, memory.rss)
        self._peak = max(self._peak, resident)
        self._user, self._system = max(self._user, user), max(self._system, system)
        return Usage(time.monotonic() - self._begun, self._user, self._system, self._peak)
