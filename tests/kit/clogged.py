"""Making a socket full, for certain, and empty again; and a listener that swallows every attempt to connect."""

import select
import socket
from contextlib import ExitStack

from kit.waiting import pause

CHUNK = 65536
SETTLED = 0.06  # seconds without room: an acknowledgement may come 40 ms later, and gives some


def fill(sock, byte=b"x"):
    """Send until the kernel takes nothing more, and does not a moment later; how many bytes it took.

    The other side must not read meanwhile. A socket that refused every size is full: one of a UNIX socket may refuse much
    and take little.
    """
    total = taken = _take_room(sock, byte)
    while taken:
        pause(SETTLED)
        taken = _take_room(sock, byte)
        total += taken
    return total


def _take_room(sock, byte):
    total = 0
    for size in (CHUNK, 4096, 64, 1):
        while True:
            try:
                total += sock.send(byte * size, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
            except BlockingIOError:
                break
    return total


def drain(sock):
    """Read what is there now, without waiting."""
    parts = []
    while True:
        try:
            part = sock.recv(CHUNK, socket.MSG_DONTWAIT)
        except BlockingIOError:
            break
        if not part:
            break
        parts.append(part)
    return b"".join(parts)


def clog(target):
    """Fill the queue of a listening `kit.peer.Target` made with backlog=0: from now on it answers no SYN at all.

    Returns what to close: the sockets that fill it.
    """
    stack = ExitStack()
    while True:
        sock = stack.enter_context(socket.socket())
        sock.setblocking(False)
        sock.connect_ex((target.host, target.port))
        poll = select.poll()
        poll.register(sock, select.POLLOUT)
        if not poll.poll(50):
            return stack
