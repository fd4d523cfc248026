"""Free ports that nobody else takes: not the kernel, not another test, not another test session on this machine.

They lie below the ephemeral range, so no outgoing connection gets one by chance. Each session owns whole blocks of
them, by a file lock that ends with the process; inside a block no port is given twice, and each is tried first.
"""

import contextlib
import fcntl
import os
import pathlib
import socket
import tempfile

FIRST, BLOCK = 10000, 500
LOCKS = pathlib.Path(tempfile.gettempdir()) / f"tcp-proxy-test-ports-{os.getuid()}"


def free_port():
    """A port that is free on every address of this machine."""
    return free_ports(1)[0]


def free_ports(count):
    """That many free ports, one after another."""
    return _SESSION.take(count)


def take_first_block():
    """Before the first test, so that the lock's descriptor is nobody's leak."""
    _SESSION.take(1)


class Ports:
    """The ports of one test session."""

    def __init__(self):
        self._locks = []
        self._next = self._end = 0

    def take(self, count):
        found = []
        while len(found) < count:
            if self._next >= self._end:
                self._next = self._lock_block()
                self._end = self._next + BLOCK
                found = []
            port, self._next = self._next, self._next + 1
            if is_free(port):
                found.append(port)
            else:
                found = []
        return found

    def close(self):
        while self._locks:
            os.close(self._locks.pop())

    def _lock_block(self):
        LOCKS.mkdir(exist_ok=True)
        for first in range(FIRST, ephemeral_from() - BLOCK, BLOCK):
            fd = os.open(LOCKS / str(first), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(fd)
                continue
            self._locks.append(fd)
            return first
        raise OSError("no block of ports is left: are many test sessions running, or one that takes very many?")


def ephemeral_from():
    """The first port that the kernel itself gives away."""
    with contextlib.suppress(OSError):
        return int(pathlib.Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    return 32768


def is_free(port):
    """Whether a listener could have it now, on IPv4 and IPv6."""
    for family, address in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
        with socket.socket(family) as sock:
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            try:
                sock.bind((address, port))
            except OSError:
                return False
    return True


_SESSION = Ports()
