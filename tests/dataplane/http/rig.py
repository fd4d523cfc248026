"""Mode http in one thread: an HttpConnection over real sockets, a turnable clock, targets that the test plays itself."""

import os
import socket

from dataplane.tls import TlsPeer, client_context, contexts

from kit.clogged import drain
from tcp_proxy.config.model import Http, Timeouts
from tcp_proxy.dataplane.http.context import HttpContext
from tcp_proxy.dataplane.target_tls import TargetTls
from tcp_proxy.runtime.loop import Loop
from tcp_proxy.runtime.socket_options import FIRST_OPTIONS, set_options
from tcp_proxy.sansio.reasons import Reason, Side
from tests.dataplane.house import Clock, House

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


class HttpHouse(House):
    """A House whose app is in mode http."""

    def __init__(self, http=None, timeouts=None, **how):
        super().__init__(timeouts=timeouts or Timeouts(), **how)
        self.app.http = http or Http()
        self.http = HttpContext(self.thread, lambda: True)
        self.requests = []
        self.records.add_request = self.requests.append
        self.records.keep_request = self.records.requests.append

    def __exit__(self, kind, *rest):
        for session in self.sessions:
            session.kill(Reason.SHUTDOWN, Side.PROXY)
        self.http.shared.upstreams.clear()
        self.turn()
        self.http.shared.pipes.close()
        try:
            if kind is None:
                assert self.http.shared.upstreams.open == self.http.shared.pipes.open == 0, "nothing is left behind"
        finally:
            self.http = self.app.http = self.app.http_app = None
            super().__exit__(kind, *rest)

    def admit(self):
        inner, address = self.listening.accept()
        set_options(inner, FIRST_OPTIONS)
        raw = socket.SocketType(inner.family, socket.SOCK_STREAM, 0, inner.detach())
        session = self.http.session(len(self.sessions) + 1, self.app, self.listener, raw, address)
        self.sessions.append(session)
        session.start()
        return session

    def ask(self, client, request, target=0):
        """The target's end of a new connection, when the request's head has come."""
        client.sendall(request)
        self.turn(3)
        server = self.accept(target)
        self.read_head(server)
        return server

    def accept(self, target=0):
        """The target's end of a new connection."""
        self.servers[target].settimeout(5)
        server = self.stack.enter_context(self.servers[target].accept()[0])
        self.turn(3)
        return server

    def ask_over_tls(self):
        """A client and its connection, and the end of its target, which is spoken to over TLS and has read a GET."""
        target = self.app.targets["t0"]
        target.tls = TargetTls(client_context(), ((0, "localhost"),))
        target.change("up", target.endpoints)
        client, session = self.client()
        client.sendall(GET)
        self.turn(3)
        peer = self.stack.enter_context(TlsPeer(self.accept(), contexts()[0], True))
        os.set_blocking(peer.fileno(), False)
        self.until(peer.handshake)
        self.read_head(peer)
        return client, session, peer

    def send(self, sock, data, flags=0, turns=1):
        """All of it, while the loop turns."""
        sock.setblocking(False)
        misses = 0
        while data:
            try:
                data = data[sock.send(data[: 1 << 18], flags) :]
            except BlockingIOError:
                misses += 1
                assert misses < 20_000, f"{len(data)} bytes are not taken"
            self.turn(turns)

    def read_head(self, sock):
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += self.receive(sock, 1)
        return head

    def read_long_head(self, sock):
        """The same by large reads: nothing may come behind it."""
        head = bytearray()
        sock.setblocking(False)
        while not head.endswith(b"\r\n\r\n"):
            head += drain(sock)
            self.turn()
        return bytes(head)

    def receive(self, sock, size=1 << 20):
        """Exactly `size` bytes, or less at the end."""
        sock.setblocking(False)
        got = b""
        for misses in range(5000):
            self.loop.run_once(0 if misses < 2000 else 0.001)
            try:
                data = sock.recv(size - len(got))
            except BlockingIOError:
                continue
            got += data
            if not data or len(got) == size:
                return got
        raise AssertionError(f"only {len(got)} of {size} bytes came: {got[:200]}")

    def fill(self, sock):
        """Send until nobody takes any more; how many bytes."""
        sock.setblocking(False)
        total = misses = 0
        while misses < 5:
            try:
                total += sock.send(bytes(1 << 16))
                misses = 0
            except BlockingIOError:
                misses += 1
            self.turn()
        return total


def pair(stack, family=socket.AF_UNIX):
    """Two connected sockets, the first one of the kind that the program has."""
    if family == socket.AF_UNIX:
        ours, theirs = socket.socketpair()
    else:
        with socket.create_server(("127.0.0.1", 0)) as server:
            ours = socket.create_connection(server.getsockname())
            theirs, _ = server.accept()
    stack.enter_context(theirs)
    return socket.SocketType(ours.family, socket.SOCK_STREAM, 0, ours.detach()), theirs


def quiet_loop():
    clock = Clock()
    return Loop("test", clock), clock
