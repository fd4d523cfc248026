"""The new program, started by the old one with its own arguments: what `tcp-proxy-ctl upgrade` asks for, and is told.

Main thread only. Owns a pidfd of the process until it has taken over, and the pipe by which it says why it cannot. It is not
our child: a service manager notices, and waits for, the end of its own children alone (systemd 252 says "which is not our
child" otherwise, and SIGKILL comes right after SIGTERM).

    IDLE ──start()──> STARTING ──it has taken over──> (we end)
    STARTING ──it has ended──> FAILED, with its own words ──start()──> STARTING …
"""

import os
import sys
from typing import Any

from tcp_proxy import __version__
from tcp_proxy.config.model import App
from tcp_proxy.control.replies import Arguments, Operation, Refused
from tcp_proxy.control.takeover.listener import TakeoverSocket
from tcp_proxy.control.takeover.orphan import start_orphan
from tcp_proxy.control.takeover.program import Program
from tcp_proxy.control.takeover.report import VARIABLE
from tcp_proxy.runtime.loop import READ

IDLE, STARTING, FAILED = "idle", "starting", "failed"
FLAG = "--takeover"
MOST = 1 << 16  # bytes of its words


class Upgrade:
    def __init__(self, program: Program, socket: TakeoverSocket, taken_from: str) -> None:
        """`taken_from`: the program that we have taken over from ourselves, in words; "": none."""
        self._program = program
        self._loop = program.context.loop
        self._socket = socket
        self._taken_from = taken_from
        self._pid: int | None = None
        self._state, self._error, self._words = IDLE, "", b""

    def __repr__(self) -> str:
        return f"<Upgrade {self._state}>"

    def operations(self) -> dict[str, Operation]:
        """For the management API."""
        return {"upgrade": lambda _: self.view(), "start_upgrade": self._start}

    def view(self) -> dict[str, Any]:
        context = self._program.context
        primaries = {name: app.primary_name for name, app in context.targets.apps.items() if app.primary is not None}
        return {
            "pid": os.getpid(),
            "version": __version__,
            "state": self._state,
            "successor": self._pid,
            "error": self._error,
            "refusal": self._refusal(),
            "taken_over_from": self._taken_from,
            "moves": {
                "listeners": len(context.listening), "primaries": primaries, "workers": len(context.worker_pool),
                "overrides": sum(bool(saved.definition) for saved in self._program.store.load().values()),
                "sticky": sum(app.sticky is not None for app in context.config.apps),
            },
            "drains": [
                {"worker": worker.index, "pid": worker.pid, "sessions": context.counter_rows.sessions(worker)}
                for worker in context.worker_pool
            ],
            "stays": [{"app": app.name, "why": why} for app in context.config.apps if (why := _why_it_stays(app))],
        }  # fmt: skip

    def _refusal(self) -> str:
        if not self._socket.path:
            return "the configuration has neither pid_file nor state, beside which programs meet"
        if not self._socket.is_open:
            return f"{self._socket.path} cannot be listened on; the log says why"
        if os.getpid() == 1:
            return "process 1 of a container cannot be replaced: the container ends with it"
        if self._state == STARTING or self._socket.predecessor is not None:
            return "another program is taking over already"
        return "it is ending" if self._program.context.is_stopping else ""

    def _start(self, _arguments: Arguments) -> dict[str, Any]:
        refusal = self._refusal()
        if refusal:
            raise Refused(409, refusal)
        reads, writes = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        arguments = [one for one in sys.orig_argv[1:] if one != FLAG]
        try:
            environment = {**os.environ, VARIABLE: str(writes)}
            self._pid, pidfd = start_orphan([sys.executable, *arguments, FLAG], environment, writes)
        except OSError as error:
            os.close(reads)
            raise Refused(409, f"the new program cannot be started: {error.strerror}") from None
        finally:
            os.close(writes)
        self._state, self._error, self._words = STARTING, "", b""
        self._loop.watch(reads, READ, lambda _events: self._hear(reads))
        self._loop.watch(pidfd, READ, lambda _events: self._ended(pidfd, reads))
        return self.view()

    def _hear(self, reads: int) -> bool:
        """Whether more may come."""
        try:
            data = os.read(reads, MOST)
        except BlockingIOError:
            return True
        self._words = (self._words + data)[:MOST]
        if not data:
            self._loop.unwatch(reads)
        return bool(data)

    def _ended(self, pidfd: int, reads: int) -> None:
        """It has not taken over: we would not be there to see it."""
        self._loop.unwatch(pidfd)
        os.close(pidfd)
        if self._loop.is_watched(reads):
            self._hear(reads)
        if self._loop.is_watched(reads):
            self._loop.unwatch(reads)
        os.close(reads)
        text = self._words.decode(errors="backslashreplace").strip()
        self._pid, self._state = None, FAILED
        self._error = text or "it has ended; the log says why"


def _why_it_stays(app: App) -> str:
    """Its sessions end in the old workers: the state of a cipher cannot leave OpenSSL."""
    ends = ["clients"] if app.tls is not None else []
    ends += ["targets"] if any(target.tls is not None for target in app.targets) else []
    return f"TLS with its {' and '.join(ends)}" if ends else ""
