"""Targets that serve any number of connections by themselves: one thread, or one process that can be killed.

    with Service(greeting=b"s1") as service:            answers what `answer` makes of what it gets (an echo)
    process = start_service(port, "s1")                 the same in a process of its own, for kill -9

`python tests/kit/servers.py PORT NAME` greets with NAME and then echoes.
"""

import contextlib
import errno
import pathlib
import select
import socket
import subprocess
import sys
import threading

CHUNK = 65536
STOP, STOP_LISTENING = b"x", b"l"  # said to the thread


class Service:
    """Echoes, or what `answer(bytes) -> bytes` says. With `hang_up` it sends its greeting and FIN, and waits for FIN.

    `accepted` counts connections, `active` those open now, `most` the most at once, `addresses` who connected.
    """

    def __init__(self, greeting=b"", answer=None, hang_up=False, port=0, host="127.0.0.1", path=None, backlog=4096):
        self.greeting, self.answer, self.hang_up = greeting, answer or bytes, hang_up
        family = socket.AF_UNIX if path else socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.socket(family)
        if not path:
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind(str(path) if path else (host, port))
        self._listener.listen(backlog)
        self._listener.setblocking(False)
        self.path = path
        self.port = 0 if path else self._listener.getsockname()[1]
        self.host = host
        self.accepted = self.most = 0
        self.addresses = []
        self._open = {}
        self._waiting = {}
        self._refuses = threading.Event()
        self._stop_read, self._stop_write = socket.socketpair()
        self._epoll = select.epoll()
        self._epoll.register(self._listener, select.EPOLLIN)
        self._epoll.register(self._stop_read, select.EPOLLIN)
        self._thread = threading.Thread(target=self._serve, name=f"service-{self.port}", daemon=True)
        self._thread.start()

    def __repr__(self):
        return f"<Service {self.greeting!r} {self.address} accepted={self.accepted} active={self.active}>"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    @property
    def address(self):
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"unix:{self.path}" if self.path else f"{host}:{self.port}"

    @property
    def active(self):
        return len(self._open)

    def close(self):
        if self._epoll.closed:
            return
        self._stop_write.send(STOP)
        self._thread.join()
        for resource in (*self._open.values(), self._listener, self._stop_read, self._stop_write, self._epoll):
            resource.close()
        self._open.clear()

    def stop_listening(self):
        """New connections are refused; those it has go on. Its thread does it: it may be accepting just now."""
        self._stop_write.send(STOP_LISTENING)
        self._refuses.wait()

    def _serve(self):
        while True:
            for fd, events in self._epoll.poll():
                if fd == self._stop_read.fileno():
                    if STOP in self._stop_read.recv(64):
                        return
                    self._listener.close()
                    self._refuses.set()
                elif fd == self._listener.fileno():
                    self._accept()
                elif fd in self._open:
                    with contextlib.suppress(ConnectionError, TimeoutError):
                        self._ready(self._open[fd], events)
                        continue
                    self._drop(self._open[fd])

    def _accept(self):
        for _ in range(64):
            try:
                sock, address = self._listener.accept()
            except OSError as error:
                if error.errno in (errno.EAGAIN, errno.ECONNABORTED, errno.EMFILE):
                    return
                raise
            sock.setblocking(False)
            if sock.family != socket.AF_UNIX:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.accepted += 1
            self.addresses.append(address)
            self._open[sock.fileno()] = sock
            self._waiting[sock] = bytearray()
            self.most = max(self.most, len(self._open))
            self._epoll.register(sock, select.EPOLLIN)
            with contextlib.suppress(OSError):  # a probe has gone already
                self._send(sock, self.greeting)
                if self.hang_up:
                    sock.shutdown(socket.SHUT_WR)

    def _ready(self, sock, events):
        if events & select.EPOLLOUT:
            self._send(sock, b"")
            return
        data = sock.recv(CHUNK)
        if not data:
            self._drop(sock)
        elif not self.hang_up:
            self._send(sock, self.answer(data))

    def _send(self, sock, data):
        """As much as goes; while something waits, nothing is read."""
        waiting = self._waiting[sock]
        waiting += data
        while waiting:
            try:
                del waiting[: sock.send(waiting, socket.MSG_NOSIGNAL)]
            except BlockingIOError:
                break
        self._epoll.modify(sock, select.EPOLLOUT if waiting else select.EPOLLIN)

    def _drop(self, sock):
        self._epoll.unregister(sock)
        del self._open[sock.fileno()], self._waiting[sock]
        sock.close()


@contextlib.contextmanager
def start_service(port, name):
    """A Service in a process of its own, already listening; killed at the end."""
    argv = [sys.executable, __file__, str(port), name]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL) as process:
        try:
            assert process.stdout.readline() == b"listening\n"
            yield process
        finally:
            process.kill()


def main(port, name):
    service = Service(greeting=f"{name}\n".encode(), port=int(port))
    sys.stdout.write("listening\n")
    sys.stdout.flush()
    service._thread.join()  # for ever: it is killed


if __name__ == "__main__":
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
    main(*sys.argv[1:])
