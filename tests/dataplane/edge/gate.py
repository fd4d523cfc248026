"""A real Server with one listener whose app has an edge, on a House's loop and clock."""

import socket

from tcp_proxy.config.model import AcceptProxy
from tcp_proxy.dataplane.edge.policy import Edge
from tcp_proxy.dataplane.server import Server
from tcp_proxy.sansio.reasons import Reason, Refusal, Side
from tcp_proxy.wire.counters import REFUSED
from tests.dataplane.house import House


class Gate:
    """`said`: what the log is told at the level debug."""

    def __init__(self, networks=("127.0.0.0/8",), timeouts=None, house=None, **accept_proxy):
        self.house = house or House(timeouts=timeouts)
        self.house.app.edge = Edge(AcceptProxy(networks, **accept_proxy))
        self.said = []
        self.server = Server(
            self.house.thread, self.house.memory, 1, 1, lambda: 0, lambda _text: None, 5.0, debug=self.said.append
        )
        listening = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.address = listening.getsockname()
        self.server.listen(7, self.house.listener_slot, self.house.app, "127.0.0.1:80", listening.detach())
        self.server.count_descriptors()
        self.clients = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for member in tuple(self.members):
            member.kill(Reason.SHUTDOWN, Side.PROXY)
        self.server.unlisten((7,), 0.0, lambda _numbers: None)
        self.house.pass_time(0.1)
        for client in self.clients:
            client.close()
        self.house.records.all.clear()
        self.house.__exit__(None)

    @property
    def members(self):
        return self.house.thread.members

    @property
    def member(self):
        """The one client that there is."""
        (member,) = self.members
        return member

    def connect(self, data=b"", source="127.0.0.1"):
        """A client that has been accepted, and has said this by then."""
        client = socket.create_connection(self.address, source_address=(source, 0))
        client.settimeout(5)
        self.clients.append(client)
        before = self.server._sessions_begun
        if data:
            client.sendall(data)
        self.house.until(lambda: self.server._sessions_begun > before)
        self.house.turn(3)
        return client

    def say(self, client, data):
        client.sendall(data)
        self.house.turn(3)

    @property
    def refused(self):
        """Refused clients by cause, where there are any."""
        counts = zip(Refusal, self.house.row[self.house.app.slot + REFUSED :], strict=False)
        return {cause.value: count for cause, count in counts if count}

    def target(self):
        """The target's end of the next session."""
        self.house.servers[0].settimeout(5)
        server = self.house.stack.enter_context(self.house.servers[0].accept()[0])
        server.settimeout(5)
        return server

    @property
    def has_session(self):
        """Whether the target has been connected to since."""
        self.house.servers[0].settimeout(0)
        try:
            self.house.servers[0].accept()[0].close()
        except BlockingIOError:
            return False
        return True
