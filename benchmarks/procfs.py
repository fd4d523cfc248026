"""What the kernel says of a process and all its descendants: CPU time, memory, and who listens where."""

import contextlib
import os
import pathlib
import time
from collections.abc import Iterable
from dataclasses import dataclass

TICK = 1 / os.sysconf("SC_CLK_TCK")  # seconds
LISTEN = "0A"


@dataclass(frozen=True)
class Cpu:
    """CPU time in seconds. `user` and `system` come from ticks of 10 ms, `total` from the scheduler's nanoseconds."""

    user: float
    system: float
    total: float

    def __sub__(self, before: "Cpu") -> "Cpu":
        """The time between two looks; the exact total is split as the ticks are."""
        user, system = self.user - before.user, self.system - before.system
        total = self.total - before.total
        share = user / (user + system) if user + system > 0 else 0.5
        return Cpu(total * share, total * (1 - share), total)


def tree(pid: int) -> list[int]:
    """The process and all its descendants."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                children.setdefault(int(_stat(int(entry))[1]), []).append(int(entry))
    found = [pid]
    for member in found:
        found.extend(children.get(member, ()))
    return found


def cpu(pids: Iterable[int]) -> Cpu:
    """What these processes used so far, their ended threads included."""
    user = system = total = 0.0
    for pid in pids:
        fields = _stat(pid)
        user += int(fields[11]) * TICK
        system += int(fields[12]) * TICK
        total += time.clock_gettime_ns(_cpu_clock(pid)) / 1e9
    return Cpu(user, system, total)


def pss(pids: Iterable[int]) -> int:
    """Bytes of memory; what several processes share is counted once in all."""
    total = 0
    for pid in pids:
        for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1]) * 1024
    return total


def listens(port: int) -> bool:
    """Whether somebody listens on this port. Nobody is connected to: some servers take the first client for the load."""
    wanted = f":{port:04X}"
    for table in ("tcp", "tcp6"):
        for line in pathlib.Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == LISTEN and fields[1].endswith(wanted):
                return True
    return False


def is_traced(pid: int) -> bool:
    """Whether strace has taken hold of every thread of it."""
    tasks = pathlib.Path(f"/proc/{pid}/task").iterdir()
    return all("TracerPid:\t0\n" not in (task / "status").read_text() for task in tasks)


def _cpu_clock(pid: int) -> int:
    """The number of a process's CPU clock, as clock_getcpuclockid(3) makes it."""
    return (~pid << 3) | 2


def _stat(pid: int) -> list[str]:
    """The fields of /proc/<pid>/stat from the state on: a name may hold spaces and brackets."""
    return pathlib.Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
