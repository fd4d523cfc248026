"""A target that is as fast as it can be: it gives zeros without end to a client whose first byte is "g", and throws away
what any other sends. `python -m benchmarks.helpers.flood PORT`.
"""

import contextlib
import os
import socket
import sys
import threading

CHUNK = 1 << 20


def main(port: int) -> None:
    listener = socket.create_server(("127.0.0.1", port), backlog=128)
    zeros = os.memfd_create("zeros")
    os.truncate(zeros, 16 * CHUNK)
    while True:
        sock, address = listener.accept()
        threading.Thread(target=serve, args=(sock, zeros), name=f"flood-{address[1]}", daemon=True).start()


def serve(sock: socket.socket, zeros: int) -> None:
    with sock, contextlib.suppress(OSError):
        gives = sock.recv(1) == b"g"
        while gives:
            os.sendfile(sock.fileno(), zeros, 0, 16 * CHUNK)
        discard(sock)


def discard(sock: socket.socket) -> None:
    """Until the end; the kernel copies nothing (MSG_TRUNC)."""
    buffer = bytearray(CHUNK)
    while sock.recv_into(buffer, CHUNK, socket.MSG_TRUNC):
        pass


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main(int(sys.argv[1]))
