"""Where a program that wants to take over finds the one that runs: a UNIX socket beside the pid file, or the state file.

Main thread only. Whoever is the same user, or root, may connect (mode 0600, and the kernel's word for who it is). One at a
time; what it says is for Predecessor, which is loaded with the first of them. The path is removed at the end, unless
somebody else has put a socket there, as a program does that has taken over.
"""

import contextlib
import logging
import os
import socket
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING

from tcp_proxy.config.model import Config
from tcp_proxy.runtime.loop import READ, Loop

if TYPE_CHECKING:
    from tcp_proxy.control.takeover.predecessor import Predecessor
    from tcp_proxy.control.takeover.program import Program

logger = logging.getLogger(__name__)

ENDING = ".takeover"
BACKLOG = 4
AGAIN = 0.5  # seconds until who came is looked at again, when no descriptor was left


class CannotTakeOver(Exception):
    """One line for the user. The program that runs goes on."""


def path_of(config: Config) -> str:
    """"": nobody can take over from a program that has neither file."""
    beside = config.pid_file or config.state
    return f"{beside}{ENDING}" if beside else ""


class TakeoverSocket:
    """`program()`: what would be handed over; asked for when somebody comes."""

    def __init__(self, loop: Loop, path: str, program: Callable[[], "Program"]) -> None:
        self.path = path
        self.predecessor: Predecessor | None = None  # of who is here now
        self.last_failure = ""
        self._loop = loop
        self._program = program
        self._socket: socket.socket | None = None
        self._identity = (0, 0)

    def __repr__(self) -> str:
        return f"<TakeoverSocket {self.path} {self.predecessor!r}>"

    @property
    def is_open(self) -> bool:
        return self._socket is not None

    def start(self) -> None:
        """In the place of whatever socket is there: who has the pid file, or the state file, is the one that runs. Without
        it the program serves all the same."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
        try:
            beside = f"{self.path}.{os.getpid()}"
            with contextlib.suppress(FileNotFoundError):
                os.unlink(beside)
            sock.bind(beside)
            os.chmod(beside, 0o600)  # before listen: until then nobody can connect
            sock.listen(BACKLOG)
            os.rename(beside, self.path)
            self._identity = _identity(self.path)
        except OSError as error:
            sock.close()
            reason = error.strerror or str(error)
            logger.warning("nobody can take over from this program: %s cannot be listened on: %s", self.path, reason)
            return
        self._socket = sock
        self._loop.watch(sock.fileno(), READ, lambda _events: self._accept())

    def stop(self, *, is_given: bool = False) -> None:
        """`is_given`: the path is another program's."""
        if self.predecessor is not None:
            self.predecessor.stop("it is ending")
        if self._socket is None:
            return
        self._loop.unwatch(self._socket.fileno())
        self._socket.close()
        self._socket = None
        with contextlib.suppress(OSError):
            if not is_given and _identity(self.path) == self._identity:
                os.unlink(self.path)

    def _accept(self) -> None:
        assert self._socket is not None
        try:
            sock, _ = self._socket.accept()
        except (BlockingIOError, ConnectionAbortedError):  # who came is gone
            return
        except OSError:  # no descriptor is left; who came waits, and is not asked for without pause
            self._loop.rewatch(self._socket.fileno(), 0)
            self._loop.call_later(AGAIN, self._look_again, self._socket)
            return
        pid, uid, _ = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        if uid not in (0, os.geteuid()):
            logger.warning("process %d of user %d may not take over: it is neither root nor user %d", pid, uid, os.geteuid())
            sock.close()
            return
        from tcp_proxy.control.takeover.connection import Connection, Ended  # noqa: PLC0415  loaded with the first of them
        from tcp_proxy.control.takeover.predecessor import Predecessor  # noqa: PLC0415

        connection = Connection(sock)
        if self.predecessor is not None:
            with contextlib.suppress(Ended):
                connection.send("refused", why=f"process {self.predecessor.pid} is taking over already")
            connection.close()
            return
        self.predecessor = Predecessor(self._program(), connection, pid, self._over)

    def _look_again(self, sock: socket.socket) -> None:
        if self._socket is sock:
            self._loop.rewatch(sock.fileno(), READ)

    def _over(self, predecessor: "Predecessor") -> None:
        self.predecessor = None
        self.last_failure = predecessor.why


def _identity(path: str) -> tuple[int, int]:
    """Numbers of files are used again."""
    status = os.stat(path)
    return status.st_ino, status.st_ctime_ns
