"""What two programs say to each other when one takes over from the other: datagrams of JSON, descriptors beside them.

Both ends; owned by one thread. A datagram is {"is": kind, ...}; what is long (a state) goes as a file in memory, whose
descriptor goes beside. VERSION is said in the first one, and what else is understood: a later program says the versions of
the earlier ones that it can take over from, too.
"""

import contextlib
import json
import os
import select
import socket
from collections.abc import Sequence
from typing import Any

VERSION = 1
UNDERSTOOD = (1,)
MOST = 1 << 16  # bytes of a datagram
MOST_DESCRIPTORS = 250  # beside one; the kernel's limit is 253 (SCM_MAX_FD)

Message = dict[str, Any]


class Ended(Exception):
    """The other end is gone, or takes and says nothing any more."""


class Connection:
    """Owns `sock`."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._socket = sock

    def __repr__(self) -> str:
        return f"<Connection fd={self._socket.fileno()}>"

    def fileno(self) -> int:
        return self._socket.fileno()

    def send(self, kind: str, descriptors: Sequence[int] = (), **body: Any) -> None:
        """Raises Ended: it was not sent. One question and one answer always have room."""
        try:
            socket.send_fds(self._socket, [json.dumps({"is": kind, **body}).encode()], list(descriptors))
        except OSError as error:
            raise Ended(error.strerror or "it takes nothing") from None

    def receive(self) -> tuple[Message, list[int]] | None:
        """What has come; None: nothing yet. The descriptors are the caller's. Raises Ended."""
        try:
            data, descriptors, flags, _ = socket.recv_fds(self._socket, MOST, MOST_DESCRIPTORS + 3)
        except BlockingIOError:
            return None
        except OSError as error:
            raise Ended(error.strerror or "it is gone") from None
        try:
            message = json.loads(data) if data and not flags & (socket.MSG_CTRUNC | socket.MSG_TRUNC) else None
        except (ValueError, RecursionError):
            message = None
        if not isinstance(message, dict) or not isinstance(message.get("is"), str):
            close_all(descriptors)
            raise Ended("it has closed the connection" if not data else "it says what nobody understands")
        return message, descriptors

    def wait(self, seconds: float) -> tuple[Message, list[int]]:
        """The next one; in a program that does nothing else meanwhile. Raises Ended."""
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        while poll.poll(seconds * 1000):
            received = self.receive()
            if received is not None:
                return received
        raise Ended(f"it has said nothing for {seconds:g} s")

    def refuse_more(self) -> None:
        """Whatever the other end sends from now on fails there; what it has sent before can still be received."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RD)

    def close(self) -> None:
        self._socket.close()


def put_in_memory(value: Any) -> int:
    """The descriptor of a file with that as JSON; the caller's."""
    fd = os.memfd_create("tcp_proxy takeover", os.MFD_CLOEXEC)
    with os.fdopen(os.dup(fd), "wb") as file:
        file.write(json.dumps(value).encode())
    return fd


def read_from_memory(fd: int) -> Any:
    """What `put_in_memory` has put there. Raises ValueError. `fd` stays the caller's."""
    with os.fdopen(os.dup(fd), "rb") as file:
        file.seek(0)
        return json.loads(file.read())


def close_all(descriptors: Sequence[int]) -> None:
    for fd in descriptors:
        os.close(fd)
