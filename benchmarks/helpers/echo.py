"""A target that sends back whatever it gets, one thread for each client. `python -m benchmarks.helpers.echo PORT`."""

import contextlib
import socket
import sys
import threading

CHUNK = 1 << 20


def main(port: int) -> None:
    listener = socket.create_server(("127.0.0.1", port), backlog=128)
    while True:
        sock, address = listener.accept()
        threading.Thread(target=serve, args=(sock,), name=f"echo-{address[1]}", daemon=True).start()


def serve(sock: socket.socket) -> None:
    buffer = memoryview(bytearray(CHUNK))
    with sock, contextlib.suppress(OSError):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while count := sock.recv_into(buffer):
            sock.sendall(buffer[:count])


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main(int(sys.argv[1]))
