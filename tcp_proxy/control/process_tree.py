"""The processes that a script has started: found in /proc, signalled, and reaped when they have ended.

Any thread of the supervisor's; a `Tree` belongs to the thread of its script. A script leads a session of its own; whatever
it starts is in that session, in whatever process group, unless it makes one itself (setsid). The supervisor is a child
subreaper: a process whose parent has ended is its child from then on, so nothing of a script is out of reach, and nothing
that has ended waits for a process that will never ask (process 1 of a container).

Whose child it was is not known any more when the parent has ended: because of the very signal, even. So a tree is looked at
before it is signalled and keeps what it has seen; what was forked in between is found by the mark in its environment, which
every process of a run has from the script, unless it takes it out. In the moment of its exec a process shows no
environment: so who was told to end is looked for again when the script itself has been reaped.

Always true: a process is signalled and reaped only as the one that was looked at, which its start time and a pidfd say; what
the program has started itself is reaped by who waits for it, and by nobody here: that is in our own session, or
leads one that is registered (`Leaders`).
"""

import contextlib
import ctypes
import os
import select
import signal
import threading
from collections.abc import Iterable, Iterator

from tcp_proxy.runtime.loop import Loop
from tcp_proxy.sansio.frozen_dataclass import dataclass

_PR_SET_CHILD_SUBREAPER = 36
SIGNAL_ROUNDS = 10  # what forks while it is being signalled is met again
REST_ROUNDS = 10  # until nothing is left of a script that has been reaped
REAP_AFTER = 0.1  # seconds until what was killed has ended, and what begins shows its environment


@dataclass(frozen=True, slots=True)
class Process:
    pid: int
    is_zombie: bool
    session: int
    started: int  # in ticks since the machine's start: with the pid, one process and no other


class Leaders:
    """The scripts of the whole program, which their own threads reap; and whether one is being started just now."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pids: set[int] = set()
        self._begun = self._done = 0

    def __repr__(self) -> str:
        return f"<Leaders {len(self._pids)}>"

    @contextlib.contextmanager
    def starting(self) -> Iterator[None]:
        """Around the start of a script, up to `add`."""
        with self._lock:
            self._begun += 1
        try:
            yield
        finally:
            with self._lock:
                self._done += 1

    def __contains__(self, pid: int) -> bool:
        return pid in self._pids

    def add(self, pid: int) -> None:
        self._pids.add(pid)

    def discard(self, pid: int) -> None:
        """It has been reaped."""
        self._pids.discard(pid)

    def strangers(self) -> list[Process]:
        """Our children that have ended and that nobody waits for; nothing is said while a script is being started."""
        with self._lock:
            before = self._begun
            if before != self._done:
                return []
        ours = os.getsid(0)
        found = [child for child in _look_at(_children(os.getpid())) if child.is_zombie and child.session != ours]
        with self._lock:
            return [child for child in found if child.pid not in self._pids] if self._begun == before else []


LEADERS = Leaders()


def become_subreaper(*, really: bool = True) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, int(really), 0, 0, 0)


def reap_orphans() -> None:
    for process in LEADERS.strangers():
        with _held(process) as fd:
            if fd >= 0:
                with contextlib.suppress(ChildProcessError):  # another thread was first
                    os.waitid(os.P_PIDFD, fd, os.WEXITED | os.WNOHANG)


class Tree:
    """What one script has started, as far as it was seen. `signal` until the script is reaped, `end_rest` then."""

    def __init__(self, leader: int, mark: str) -> None:
        """`mark`: NAME=value, in the environment of this script and of no other."""
        self._leader = leader
        self._mark = mark.encode()
        self._seen: dict[int, int] = {}  # those that the leader waits for, and theirs: when each started
        self._let_go: frozenset[int] | None = None  # those that had been left to themselves when the first signal came

    def __repr__(self) -> str:
        return f"<Tree of {self._leader}, {len(self._seen)} seen>"

    def signal(self, number: int, with_all: bool) -> int:
        """To the script and to what lives in its session; `with_all` also to whatever it was waiting for when it was first
        signalled so, and to what that has started since. How many others than the script there were."""
        found = self._look(with_all)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._leader, number)
        told: set[int] = set()
        count = rounds = 0
        while found or (with_all and not rounds):
            told.update(process.pid for process in found)
            count += sum(_signal(process, number) for process in found)
            rounds += 1
            if rounds == SIGNAL_ROUNDS:
                break
            found = [process for process in self._look(with_all) if process.pid not in told]  # forked meanwhile
        return count

    def end_rest(self, loop: Loop, rounds: int = REST_ROUNDS) -> None:
        """A moment later, and until nothing is left: kill whoever was to end and was not seen, and reap."""
        loop.call_later(REAP_AFTER, self._end_rest, loop, rounds)

    def _end_rest(self, loop: Loop, rounds: int) -> None:
        if self._kill_rest() and rounds:
            self.end_rest(loop, rounds - 1)
        reap_orphans()

    def end_rest_now(self) -> None:
        """The same without a loop, which is about to end."""
        for _ in range(REST_ROUNDS):
            if not (found := self._kill_rest()):
                return
            _await_an_end(found, REAP_AFTER / 10)

    def _kill_rest(self) -> list[Process]:
        """Whom it was sent, and of whom nothing can be said yet. The mark alone counts: numbers may be another's by now."""
        if self._let_go is None:  # nothing but its session was to end
            return []
        alive = [child for child in _adopted() if not child.is_zombie]
        orphans = [child for child in alive if child.pid not in self._let_go and child.pid not in LEADERS]
        environments = [(child, _environment(child.pid)) for child in orphans]
        marked = [child.pid for child, found in environments if self._mark in found]
        killed = [process for process in _descendants(marked) if not process.is_zombie and _signal(process, signal.SIGKILL)]
        return killed + [child for child, found in environments if not any(found)]

    def _look(self, with_all: bool) -> list[Process]:
        """Those alive, without the leader."""
        adopted = [child.pid for child in _adopted()]
        below = _descendants([self._leader, *(pid for pid, started in self._seen.items() if _started(pid) == started)])
        if with_all:
            if self._let_go is None:
                self._let_go = frozenset(adopted) - {process.pid for process in below}
            orphans = [pid for pid in adopted if pid not in self._let_go and self._mark in _environment(pid)]
            below = {process.pid: process for process in (*below, *_descendants(orphans))}.values()
            self._seen = {process.pid: process.started for process in below}
        alive = {process.pid: process for process in (*below, *_descendants(adopted)) if not process.is_zombie}
        alive.pop(self._leader, None)
        wanted = self._seen if with_all else {}
        return [process for pid, process in alive.items() if process.session == self._leader or pid in wanted]


def _adopted() -> list[Process]:
    """Children of ours that are not in our session: scripts, and what they have left behind."""
    ours = os.getsid(0)
    return [child for child in _look_at(_children(os.getpid())) if child.session != ours]


def _descendants(pids: list[int]) -> Iterable[Process]:
    """And these themselves."""
    seen: dict[int, Process] = {}
    while pids:
        found = [process for process in _look_at(pids) if process.pid not in seen]
        seen.update((process.pid, process) for process in found)
        pids = [child for process in found for child in _children(process.pid)]
    return seen.values()


def _children(pid: int) -> list[int]:
    """Each thread has its own list; an adopted child is in that of the first."""
    found = []
    with contextlib.suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with contextlib.suppress(OSError), open(f"/proc/{pid}/task/{thread}/children", "rb") as file:
                found += [int(child) for child in file.read().split()]
    return found


def _look_at(pids: Iterable[int]) -> Iterator[Process]:
    for pid in pids:
        with contextlib.suppress(OSError), open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
            yield Process(pid, fields[0] in b"ZX", int(fields[3]), int(fields[19]))


def _started(pid: int) -> int | None:
    return next((process.started for process in _look_at([pid])), None)


def _environment(pid: int) -> list[bytes]:
    """As it was at its start; nothing of one that is gone, or that we may not look at."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/environ", "rb") as file:
        return file.read().split(b"\0")
    return []


@contextlib.contextmanager
def _held(process: Process) -> Iterator[int]:
    """A pidfd of this very process; -1 when it is gone."""
    try:
        fd = os.pidfd_open(process.pid)
    except OSError:
        yield -1
        return
    try:
        same = next(iter(_look_at([process.pid])), None)
        yield fd if same is not None and same.started == process.started else -1
    finally:
        os.close(fd)


def _await_an_end(processes: Iterable[Process], seconds: float) -> None:
    with contextlib.ExitStack() as stack:
        ends = select.poll()
        for process in processes:
            fd = stack.enter_context(_held(process))
            if fd >= 0:
                ends.register(fd, select.POLLIN)
        ends.poll(seconds * 1000)


def _signal(process: Process, number: int) -> int:
    with _held(process) as fd:
        if fd >= 0:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                signal.pidfd_send_signal(fd, number)
                return 1
    return 0
