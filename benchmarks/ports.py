"""Free ports that nobody else takes: not the kernel, not another benchmark or test session on this machine.

They lie below the ephemeral range, so no outgoing connection gets one by chance. Each session owns whole blocks of
them; inside a block no port is given twice, and each is tried first. What locks a block is a UNIX socket with an abstract
name: it ends with the process, and is known where the ports are, in one network namespace, to every user alike.
"""

import contextlib
import os
import pathlib
import socket

FIRST, BLOCK = 10000, 500


class Ports:
    """The ports of one session."""

    def __init__(self) -> None:
        self.locks: list[int] = []  # descriptors
        self._next = self._end = 0

    def take(self, count: int) -> list[int]:
        """That many free ports, one after another. Raises OSError when no block is left."""
        found: list[int] = []
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

    def close(self) -> None:
        while self.locks:
            os.close(self.locks.pop())

    def _lock_block(self) -> int:
        for first in range(FIRST, ephemeral_from() - BLOCK, BLOCK):
            lock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            try:
                lock.bind(f"\0tcp-proxy-test-ports-{first}")
            except OSError:
                lock.close()
                continue
            self.locks.append(lock.detach())
            return first
        raise OSError("no block of ports is left: are many sessions running, or one that takes very many?")


def ephemeral_from() -> int:
    """The first port that the kernel itself gives away."""
    with contextlib.suppress(OSError):
        return int(pathlib.Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    return 32768


def is_free(port: int) -> bool:
    """Whether a listener could have it now, on IPv4 and IPv6."""
    for family, address in ((socket.AF_INET, ""), (socket.AF_INET6, "")):
        with socket.socket(family) as sock:
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            try:
                sock.bind((address, port))
            except OSError:
                return False
    return True


SESSION = Ports()  # of this process
