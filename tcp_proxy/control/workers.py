"""One child process, as the supervisor sees it: started, listened to, watched, ended, explained.

Main thread only. The only place that starts processes of ours: spawned, never forked, with the signals of a process
group blocked, so that a Ctrl-C in the first millisecond of a child's life ends no session (DESIGN 9.7).

    STARTING ──Ready──> SERVING ──drain()──> DRAINING ──> ENDED
        │ any state: the process ends; silent for SILENT seconds: SIGABRT (it prints its stacks), then SIGKILL ──^

A worker is such a child; the process of the management API is another one. A Child owns the process, its pidfd and its
end of the channel, and releases all three in `_ended`, once.
"""

import contextlib
import logging
import os
import resource
import signal
import site
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

import tcp_proxy
from tcp_proxy.channel import Channel
from tcp_proxy.loop import READ, Loop, Timer
from tcp_proxy.messages import Message, Ping

logger = logging.getLogger(__name__)

MODULE = "tcp_proxy.dataplane.worker"
WRONG_VERSION = 78  # what a worker of another version exits with
PING_EVERY = 3.0  # seconds
SILENT = 10.0  # seconds without a word: it hangs
KILL_AFTER = 1.0  # seconds between SIGABRT and SIGKILL
BLOCKED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


def raise_descriptor_limit() -> None:
    """The soft limit becomes the hard one; workers inherit it, so this comes before the first of them (DESIGN 9.8)."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class Spawned:
    """A process that has been started and knows nothing yet: a worker, or another `module` that is lent descriptors."""

    def __init__(self, module: str = "", lent: Sequence[int] = ()) -> None:
        self.sock, theirs = socket.socketpair()
        argv = [sys.executable, "-P", "-m", module or MODULE, str(theirs.fileno()), tcp_proxy.__version__, *map(str, lent)]
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, BLOCKED)
        try:
            self.process = subprocess.Popen(
                argv, pass_fds=(theirs.fileno(), *lent), stdin=subprocess.DEVNULL, env=_environment()
            )
        except OSError:
            self.sock.close()
            raise
        finally:
            theirs.close()
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    def discard(self) -> None:
        """It is not needed after all. Nothing happens the second time."""
        self.sock.close()
        self.process.kill()
        self.process.wait()


class Child:
    """`received(child, message)` for each message; `ended(child, explanation)` once, when the process is gone."""

    def __init__(
        self,
        loop: Loop,
        name: str,
        spawned: Spawned,
        received: Callable[[Any, Message], Any],
        ended: Callable[[Any, str], Any],
    ) -> None:
        """Owns `spawned` from now on, unless it raises OSError. Log lines call it `name`."""
        self._pidfd = os.pidfd_open(spawned.process.pid)
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
        self._channel = Channel(loop, spawned.sock, self._hear, lambda: None)
        loop.watch(self._pidfd, READ, self._ended)

    def __repr__(self) -> str:
        return f"<Child {self.name} pid={self.pid} {'serving' if self.is_ready else 'starting'}>"

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def has_wrong_version(self) -> bool:
        return self._process.returncode == WRONG_VERSION

    @property
    def has_ended_well(self) -> bool:
        return self._process.returncode == 0

    def send(self, message: Message, descriptors: Sequence[int] = ()) -> None:
        self._channel.send(message, descriptors)

    def kill(self) -> None:
        self._process.kill()

    def discard(self) -> None:
        """Its end is nothing that anybody need hear of: it is killed, waited for, and everything given back."""
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
        self._on_end(self, _explain(status))


class Worker(Child):
    """A child that serves clients. `index` is its place among the workers."""

    def __init__(
        self,
        loop: Loop,
        index: int,
        spawned: Spawned,
        received: Callable[["Worker", Message], Any],
        ended: Callable[["Worker", str], Any],
    ) -> None:
        super().__init__(loop, f"worker {index}", spawned, received, ended)
        self.index = index
        self.is_draining = False
        self.cut = 0
        self.capacity = 0  # sessions that its descriptors allow
        self.incarnation = ""  # unique for each process; its session ids start with it
        self.generation = 0  # of the configuration that it is known to have
        self.open_listeners: set[int] = set()

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


def _environment() -> dict[str, str]:
    """Children run with -P, so a tcp_proxy that is not installed (a source tree) must be named to them."""
    home = os.path.dirname(os.path.dirname(os.path.abspath(tcp_proxy.__file__)))
    if home in site.getsitepackages() or home == site.getusersitepackages():
        return dict(os.environ)
    path = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": f"{home}{os.pathsep}{path}" if path else home}
