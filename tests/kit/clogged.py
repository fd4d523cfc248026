"""Making a socket full, for certain, and empty again."""

import socket

CHUNK = 65536


def fill(sock, byte=b"x"):
    """Send until the kernel takes nothing more for now; how many bytes it took.

    The other side must not read meanwhile. Loopback delivers at once, so a socket that refused two rounds is full.
    """
    total = 0
    for size in (CHUNK, 1):
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
