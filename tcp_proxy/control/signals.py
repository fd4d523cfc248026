"""Signals as calls in the supervisor's loop: a handler does nothing but put a byte on a socket that the loop reads.

Main thread only. Owns the socketpair, from `catch` to `close`; from then on signals are ignored.
"""

import signal
import socket
from collections.abc import Callable
from typing import Any

from tcp_proxy.runtime.loop import READ, Loop

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


class Signals:
    """`received(number)` for each."""

    def __init__(self, loop: Loop, received: Callable[[int], Any]) -> None:
        self._loop = loop
        self._received = received
        self._pair: tuple[socket.socket, socket.socket] | None = None

    def __repr__(self) -> str:
        return f"<Signals {'caught' if self._pair is not None else 'not caught'}>"

    def catch(self) -> None:
        ours, theirs = self._pair = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
        for number in SIGNALS:
            signal.signal(number, _enqueued)
        self._loop.watch(ours.fileno(), READ, lambda _events: self._ready(ours))

    def stop(self) -> None:
        """None is heard any more."""
        signal.set_wakeup_fd(-1)

    def close(self) -> None:
        """After the loop's end."""
        if self._pair is None:
            return
        for end in self._pair:
            end.close()
        for number in SIGNALS:  # the interpreter, as it ends, gives back only what Python handles: a late signal is nothing
            signal.signal(number, signal.SIG_IGN)

    def _ready(self, ours: socket.socket) -> None:
        for number in ours.recv(64):
            self._received(number)


def _enqueued(_number: int, _frame: object) -> None:
    """The byte on the wake-up socket is the whole effect of a signal."""
