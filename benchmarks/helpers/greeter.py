"""A target that greets each client with one byte and then keeps the connection: for idle sessions and for the start.

`python -m benchmarks.helpers.greeter PORT [BYTE]`. A process of its own, with a descriptor limit of its own.
"""

import contextlib
import resource
import select
import socket
import sys


def main(port: int, greeting: bytes) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    listener = socket.create_server(("127.0.0.1", port), backlog=4096)
    epoll = select.epoll()
    epoll.register(listener, select.EPOLLIN)
    clients: dict[int, socket.socket] = {}
    while True:
        for fd, _ in epoll.poll():
            if fd == listener.fileno():
                sock, _ = listener.accept()
                clients[sock.fileno()] = sock
                epoll.register(sock, select.EPOLLIN)
                with contextlib.suppress(OSError):
                    sock.send(greeting, socket.MSG_NOSIGNAL)
            else:
                _read(clients, fd)


def _read(clients: dict[int, socket.socket], fd: int) -> None:
    """What a client says is ignored; its end is answered."""
    with contextlib.suppress(OSError):
        if clients[fd].recv(65536):
            return
    clients.pop(fd).close()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main(int(sys.argv[1]), sys.argv[2].encode() if len(sys.argv) > 2 else b"!")
