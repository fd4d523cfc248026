"""Clients that connect, hear one byte from the target, and then say nothing.

`python -m benchmarks.helpers.idle_clients PORT` reads numbers from its standard input, one a line; for each it opens
connections until it has that many, and answers with the number once every one of them was greeted.
"""

import contextlib
import resource
import socket
import sys
from collections.abc import Callable
from typing import TypeVar

AT_ONCE = 100  # connects under way together


Client = TypeVar("Client", bound=socket.socket)


def main(port: int) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    clients: list[socket.socket] = []
    for line in sys.stdin:
        wanted = int(line)
        while len(clients) < wanted:
            clients.extend(greeted(port, min(AT_ONCE, wanted - len(clients)), lambda sock: sock))
        sys.stdout.write(f"{len(clients)}\n")
        sys.stdout.flush()


def greeted(port: int, count: int, made_of: Callable[[socket.socket], Client]) -> list[Client]:
    """`made_of`: what a connection becomes before anything is read."""
    new = [made_of(socket.create_connection(("127.0.0.1", port), timeout=20)) for _ in range(count)]
    for sock in new:
        if sock.recv(1) != b"!":
            raise ConnectionError("a client was not greeted by the target")
    return new


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main(int(sys.argv[1]))
