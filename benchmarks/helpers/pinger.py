"""A client that sends a message and waits for its echo, again and again, at least twice, and counts.

`python -m benchmarks.helpers.pinger PORT SIZE SECONDS` writes {"messages": …, "seconds": …}.
"""

import contextlib
import json
import select
import socket
import sys

from benchmarks.waiting import now


def main(port: int, size: int, seconds: float) -> None:
    message = bytes(size)
    count, start = 0, now()
    with socket.create_connection(("127.0.0.1", port), timeout=20) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setblocking(False)
        while now() - start < seconds or count < 2:
            exchange(sock, message)
            count += 1
    sys.stdout.write(json.dumps({"messages": count, "seconds": now() - start}))


def exchange(sock: socket.socket, message: bytes) -> None:
    """One message there and back; both ways at once, for a large one fits into no buffer."""
    poll, unsent, missing = select.poll(), memoryview(message), len(message)
    while missing:
        if unsent:
            with contextlib.suppress(BlockingIOError):
                unsent = unsent[sock.send(unsent) :]
        try:
            part = len(sock.recv(1 << 20))
        except BlockingIOError:
            poll.register(sock, select.POLLIN | (select.POLLOUT if unsent else 0))
            if not poll.poll(20_000):
                raise TimeoutError("no echo within 20 s") from None
            continue
        if not part:
            raise ConnectionError("the connection ended before the echo was whole")
        missing -= part


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
