"""Clients with TLS that hear one byte from the target and then say nothing, or a given number of bytes first.

`python -m benchmarks.helpers.tls_idle_clients PORT` reads numbers from its standard input, one a line, and answers each with
itself: the first is how many connections are opened, every other how many bytes each of them sends.
"""

import contextlib
import ssl
import sys

from benchmarks.helpers.idle_clients import greeted
from benchmarks.helpers.tls_client import client_context


def main(port: int) -> None:
    clients: list[ssl.SSLSocket] = []
    for line in sys.stdin:
        if clients:
            for sock in clients:
                sock.sendall(bytes(int(line)))
        else:
            clients = greeted(port, int(line), client_context().wrap_socket)
        sys.stdout.write(line)
        sys.stdout.flush()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main(int(sys.argv[1]))
