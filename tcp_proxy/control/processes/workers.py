"""One child process, as the supervisor sees it: started, listened to, watched, ended, explained.

Main thread only. It is started by control.processes.spawned.

    STARTING ──Ready──> SERVING ──drain()──> DRAINING ──> ENDED
        │ any state: the process ends; silent for SILENT seconds: SIGABRT (it prints its stacks), then SIGKILL ──^

A worker is such a child; the process of the management API is another one. A Child owns the process, its pidfd, its end of
the channel and the read end of its standard error, and releases all four in `_ended`, once.
"""

import contextlib
import io
import logging
import os
import signal
import socket
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from tcp_proxy.control.processes.child_stderr import ChildStderr
from tcp_proxy.runtime.loop import READ, Loop, Timer
from tcp_proxy.wire.channel import Channel, Make
from tcp_proxy.wire.messages import Encoded, Message, Ping

logger = logging.getLogger(__name__)

WRONG_VERSION = 78  # what a worker of another version exits with
PING_EVERY = 3.0  # seconds
SILENT = 10.0  # seconds without a message: it hangs
KILL_AFTER = 1.0  # seconds between SIGABRT and SIGKILL


class Process(Protocol):
    """One that runs: `Spawned`, or one that a program which is taken over has started."""

    sock: socket.socket
    stderr: io.FileIO
    begun: bytes
    stderr_begun: bytes

    @property
    def process(self) -> "Handle": ...

    def open_pidfd(self) -> int: ...


class Handle(Protocol):
    """What a Popen has, as far as it is used."""

    @property
    def pid(self) -> int: ...

    @property
    def returncode(self) -> int | None: ...

    def send_signal(self, sig: int) -> None: ...

    def kill(self) -> None: ...

    def wait(self) -> int: ...


class Child:
    """`received(child, message)` for each message; `ended(child, explanation)` once, when the process is gone."""

    def __init__(
        self,
        loop: Loop,
        name: str,
        spawned: "Process",
        received: Callable[[Any, Message], Any],
        ended: Callable[[Any, str], Any],
    ) -> None:
        """Owns `spawned` from now on, unless it raises OSError. Log lines call it `name`."""
        self._pidfd = spawned.open_pidfd()
        self.name = name
        self.is_ready = False
        self.started = loop.now
        self._loop = loop
        self._process = spawned.process
        self._received = received
        self._on_end = ended
        self._heard = loop.now
        self._pings = 0
        self._unanswered = 0
        self._timer: Timer = loop.call_later(PING_EVERY, self._beat)
        self._channel = Channel(loop, spawned.sock, self._hear, lambda: None, spawned.begun)
        self._stderr = ChildStderr(loop, spawned.stderr, lambda: f"{self.name} (pid {self.pid})", spawned.stderr_begun)
        loop.watch(self._pidfd, READ, self._ended)

    def __repr__(self) -> str:
        return f"<Child {self.name} pid={self.pid} {'serving' if self.is_ready else 'starting'}>"

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def pidfd(self) -> int:
        return self._pidfd

    @property
    def has_wrong_version(self) -> bool:
        return self._process.returncode == WRONG_VERSION

    @property
    def has_ended_well(self) -> bool:
        return self._process.returncode == 0

    def send(self, message: Message | Encoded, descriptors: Sequence[int] = ()) -> None:
        self._channel.send(message, descriptors)

    def send_in_turn(self, make: Make) -> None:
        self._channel.send_in_turn(make)

    def kill(self) -> None:
        self._process.kill()

    @property
    def is_waiting(self) -> bool:
        """Whether it was sent something that it has not taken yet."""
        return self._channel.is_waiting

    def pause(self) -> tuple[dict[str, Any], list[int]]:
        """Hear nothing of it, until `resume`: what a program that takes over has to know of it; its channel, the descriptor
        of its process, and its standard error, if that has not ended."""
        self._timer.cancel()
        self._loop.unwatch(self._pidfd)
        channel, begun = self._channel.pause()
        stderr, line = self._stderr.pause()
        told = {"pid": self.pid, "begun": begun.hex(), "stderr_begun": line.hex(), "has_stderr": stderr >= 0}
        return told, [channel, self._pidfd, *([stderr] if stderr >= 0 else [])]

    def resume(self) -> None:
        self._unanswered = 0
        self._timer = self._loop.call_later(PING_EVERY, self._beat)
        self._channel.resume()
        self._stderr.resume()
        self._loop.watch(self._pidfd, READ, self._ended)

    def discard(self) -> None:
        """Its end is reported to nobody: it is killed, waited for, and everything is released."""
        self._process.kill()
        self._on_end = lambda _child, _explanation: None
        self._ended(0)

    def _hear(self, message: Message, _descriptors: list[int]) -> None:
        self._heard = self._loop.now
        self._unanswered = 0
        self._received(self, message)

    def _beat(self) -> None:
        # Counted, not measured: after a Ctrl-Z and fg a minute has passed in which nobody was asked anything.
        if self._unanswered < SILENT // PING_EVERY:
            self._pings += 1
            self._unanswered += 1
            self.send(Ping(self._pings))
            self._timer = self._loop.call_later(PING_EVERY, self._beat)
            return
        text = "%s (pid %d) has been silent for %.0f s: it is ended; its stacks follow"
        logger.error(text, self.name, self.pid, self._loop.now - self._heard)
        self._process.send_signal(signal.SIGABRT)
        self._process.send_signal(signal.SIGCONT)  # a stopped process prints nothing
        self._timer = self._loop.call_later(KILL_AFTER, self.kill)

    def _ended(self, _events: int) -> None:
        status = self._process.wait()
        self._timer.cancel()
        self._loop.unwatch(self._pidfd)
        os.close(self._pidfd)
        self._channel.drain()
        self._channel.close()
        self._stderr.close()
        self._on_end(self, _explain(status))


class Worker(Child):
    """A child that serves clients. `index` is its place among the workers.

    It is told everything in slices (control.changes.worker_updates): from `begin_introduction` to `end_introduction`. News
    wait meanwhile; before, it misses none, for it is told of what there is then.
    """

    def __init__(
        self,
        loop: Loop,
        index: int,
        spawned: Process,
        received: Callable[["Worker", Message], Any],
        ended: Callable[["Worker", str], Any],
    ) -> None:
        super().__init__(loop, f"worker {index}", spawned, received, ended)
        self.index = index
        self.is_draining = False
        self.cut = 0
        self.capacity = 0  # sessions that its descriptors allow beside its listeners
        self.incarnation = ""  # unique for each process; its session ids start with it
        self.generation = -1  # of the configuration that it is known to have; -1: of none
        self.open_listeners: set[int] = set()
        self.is_introduced = False
        self.is_unneeded = False  # it was not wanted any more before it was told of all apps: it is told of no change
        self._news: list[Message] | None = None  # that wait, while it is introduced

    @property
    def is_told(self) -> bool:
        """Whether it hears news, now or as soon as it is introduced."""
        return self.is_introduced or self._news is not None

    def begin_introduction(self) -> None:
        self._news = []

    def end_introduction(self) -> None:
        news, self._news, self.is_introduced = self._news, None, True
        for message in news or ():
            self.send(message)

    def tell(self, message: Message) -> None:
        """News, which have their order among themselves, and a meaning only for who knows what was before."""
        if self._news is not None:
            self._news.append(message)
        elif self.is_introduced:
            self.send(message)

    def descriptors(self) -> int:
        """How many it has open now; 0 when it is gone."""
        try:
            return len(os.listdir(f"/proc/{self.pid}/fd"))
        except OSError:
            return 0

    def __repr__(self) -> str:
        state = "draining" if self.is_draining else "serving" if self.is_ready else "starting"
        return f"<Worker {self.index} pid={self.pid} {state}>"


def _explain(status: int) -> str:
    if status >= 0:
        return f"exit status {status}"
    name = str(-status)
    with contextlib.suppress(ValueError):
        name = signal.Signals(-status).name
    return name + (" (perhaps the system was out of memory: see the kernel's log)" if -status == signal.SIGKILL else "")
