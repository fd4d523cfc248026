"""What systemd, or another service manager, is told: when we serve, read the configuration again, end, and that we turn.

Main thread only. The protocol is sd_notify(3): a datagram of NAME=value lines to the UNIX socket that NOTIFY_SOCKET names.
Nothing here waits, and no fault of the manager's is one of ours: what its socket has no room for is sent again a moment
later, in order; one that is gone is given up, with one line in the log. Only our very last word, that another process is the
service now, is waited for in `close`: without it the manager would take our end for the service's. Without NOTIFY_SOCKET
nothing happens at all.

    STARTING ──ready()──> READY=1 ──reloading()──> RELOADING=1 ──ready()──> READY=1 ──stopping()──> STOPPING=1
    with WATCHDOG_USEC: WATCHDOG=1 twice in that time, from `start` to `close`

Descriptors that it is to keep for our next start (FDSTORE=1) are told when there is room and nothing else waits for it;
which they are is for listeners.fd_store.
"""

import contextlib
import errno
import logging
import os
import socket
import struct
from collections import deque
from collections.abc import MutableMapping

from tcp_proxy.runtime.loop import Loop

logger = logging.getLogger(__name__)

SEND_AGAIN = 0.1  # seconds, when the manager's socket is full
LAST_WORD = 4.0  # seconds, for one that is busy when another process is the service: which waits for us for 5
MOST_WAITING = 100  # messages; older ones say nothing any more


class ServiceManager:
    """Takes its variables out of `environment`: they are not for scripts, which may have the rest."""

    def __init__(self, loop: Loop, environment: MutableMapping[str, str]) -> None:
        self._loop = loop
        path = environment.pop("NOTIFY_SOCKET", "")
        # For a program that takes over.
        kept = environment.pop("FDSTORE", "")
        self.given = {"NOTIFY_SOCKET": path, "WATCHDOG_USEC": environment.get("WATCHDOG_USEC", ""), "FDSTORE": kept}
        self._watchdog = _watchdog(environment.pop("WATCHDOG_USEC", ""), environment.pop("WATCHDOG_PID", ""))
        self._waiting: deque[bytes] = deque(maxlen=MOST_WAITING)
        self._sock: socket.socket | None = None
        if path.startswith(("/", "@")):
            self._address = "\0" + path[1:] if path[0] == "@" else path
            self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        elif path:
            logger.warning("NOTIFY_SOCKET: %s is no UNIX socket, so the service manager hears nothing of us", path)

        self.keeps = int(kept) if self._sock is not None and kept.isdecimal() else 0  # descriptors, at the most

    def __repr__(self) -> str:
        return "<ServiceManager>" if self._sock is not None else "<ServiceManager none>"

    @property
    def is_there(self) -> bool:
        """Somebody may hear us."""
        return self._sock is not None

    def start(self) -> None:
        """The loop is about to turn."""
        if self._sock is not None and self._watchdog:
            self._beat()

    def ready(self, status: str) -> None:
        """Clients are served, for the first time or with another configuration; `status` is one line for people."""
        self._send("READY=1", f"STATUS={status}")

    def reloading(self) -> None:
        """Until the next `ready`. As `Type=notify-reload` wants it, with the time at which it was begun."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={int(self._loop.now * 1e6)}")

    def stopping(self, status: str, seconds: float) -> None:
        """It may take so long, whatever TimeoutStopSec is."""
        self._send("STOPPING=1", f"STATUS={status}", f"EXTEND_TIMEOUT_USEC={int(seconds * 1e6)}")

    def hand_over(self, pid: int, status: str) -> None:
        """That process is the service from now on, and it serves."""
        self._send(f"MAINPID={pid}", "READY=1", f"STATUS={status}")

    def store(self, name: str, fd: int) -> bool:
        """Keep a copy for our next start, under that name. Whether it was told; False: later."""
        return self._send_now([fd], "FDSTORE=1", f"FDNAME={name}")

    def remove(self, name: str) -> bool:
        """Close all that is kept under that name. Whether it was told; False: later."""
        return self._send_now([], "FDSTOREREMOVE=1", f"FDNAME={name}")

    def close(self) -> None:
        if self._sock is not None and any(message.startswith(b"MAINPID=") for message in self._waiting):
            with contextlib.suppress(OSError):  # it is gone: _flush says so
                self._sock.connect(self._address)  # else the kernel calls it writable however full it is
            self._sock.settimeout(LAST_WORD)
            self._flush()
        if self._sock is not None:
            self._sock.close()
            self._sock = None

    def _beat(self) -> None:
        """This thread does what it is there for."""
        if self._sock is not None:
            if not self._waiting:
                self._send("WATCHDOG=1")
            self._loop.call_later(self._watchdog / 2, self._beat)

    def _send(self, *lines: str) -> None:
        if self._sock is None:
            return
        self._waiting.append("\n".join(lines).encode("utf-8", "backslashreplace"))
        if len(self._waiting) == 1:
            self._flush()

    def _flush(self) -> None:
        while self._sock is not None and self._waiting:
            if not self._is_sent(self._waiting[0], []):
                self._loop.call_later(SEND_AGAIN, self._flush)
                return
            if self._waiting:  # it is still there
                self._waiting.popleft()

    def _send_now(self, descriptors: list[int], *lines: str) -> bool:
        return not self._waiting and self._is_sent("\n".join(lines).encode(), descriptors)

    def _is_sent(self, data: bytes, descriptors: list[int]) -> bool:
        """False: there is no room now, or too many descriptors are on their way."""
        if self._sock is None:
            return False
        beside = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack(f"{len(descriptors)}i", *descriptors))]
        try:
            self._sock.sendmsg([data], beside if descriptors else [], 0, self._address)
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.ETOOMANYREFS):
                return False
            why = error.strerror or "it has no room"
            logger.warning("the service manager hears nothing of us any more: NOTIFY_SOCKET: %s", why)
            self._waiting.clear()
            self.close()
        return True


def _watchdog(microseconds: str, pid: str) -> float:
    """Seconds within which the manager wants to hear of us; 0.0: it does not."""
    is_ours = not pid or pid == str(os.getpid())
    return int(microseconds) / 1e6 if is_ours and microseconds.isdecimal() else 0.0
