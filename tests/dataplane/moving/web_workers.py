"""Two workers of an app in mode http, one target that the test plays, and a talk that is cut anywhere (two_workers.py)."""

import re
import socket
from typing import NamedTuple

from tcp_proxy.config.model import Http
from tcp_proxy.wire import counters
from tests.dataplane.moving.two_workers import TARGET, TwoWorkers

TURNS = 4
DATE = re.compile(rb"(?<=\nDate:)[^\r]+")  # of our own answers, too: it is another second in another run


class Said(NamedTuple):
    """What came of a talk. `requests`: fields of their lines in the access log that the way must not change."""

    client: bytes  # received
    target: bytes  # received, whatever connections it came by
    requests: list


class WebWorkers(TwoWorkers):
    """`where`: the worker that has the client."""

    def __init__(self, http=None, **how):
        super().__init__(http=http or Http(), **how)
        self.requests = []
        for side in self.sides:
            side.server.serve_http()
            side.records.add_request = self.requests.append
        self.where = 0
        self.moves = 0

    def __exit__(self, kind, *rest):
        for side in self.sides:
            side.server.http_context.shared.upstreams.clear()
            side.server.http_context.shared.pipes.close()
        super().__exit__(kind, *rest)
        if kind is None:
            assert self.memory.total(TARGET + counters.HTTP_CONNECTIONS) == 0, "no connection to the target is left"

    def connect(self):
        client = self.stack.enter_context(socket.create_connection(self.listener.getsockname()))
        client.setblocking(False)
        self.turn(TURNS)
        return client

    def accept(self):
        """The target's end of a new connection."""
        self.target.setblocking(False)
        found = []

        def accepted():
            try:
                found.append(self.target.accept()[0])
            except BlockingIOError:
                return False
            return True

        self.until(accepted)
        server = self.stack.enter_context(found[0])
        server.setblocking(False)
        return server

    @property
    def giver(self):
        return self.sides[self.where]

    @property
    def taker(self):
        return self.sides[1 - self.where]

    def move_on(self, **what):
        """To the other worker, if that is possible now."""
        told = self.move(self.giver, self.taker, **what)
        if told.moved:
            self.where = 1 - self.where
            self.moves += 1
        return told


class Talk:
    """A client says `asked`, the target answers each whole request head with the next of `answers`; both in pieces.

    Nothing is waited for in between: what one has said is read when the loops have turned a few times.
    """

    def __init__(self, two, asked, answers, closes=False):
        """`closes`: the target after an answer. The last of what is asked must ask for a close."""
        self.two, self.closes = two, closes
        self._asked, self._answers = asked, list(answers)
        self.client, self._servers = two.connect(), []
        self._heard = [bytearray(), bytearray()]  # by client and target
        self._answer, self._answering, self._due = b"", None, 0
        self._client_ended = False
        two.target.setblocking(False)

    def say(self, size):
        """The client, so many bytes."""
        if self._asked:
            try:
                self._asked = self._asked[self.client.send(self._asked[:size]) :]
            except BlockingIOError:
                pass
            except OSError:  # it was closed: nothing more is wanted
                self._asked = b""
        self.turn()

    def answer(self, size):
        """The target, so many bytes, if it has been asked anything."""
        if not self._answer and self._heads() > self._due and self._answers and self._servers:
            self._due += 1
            self._answer, self._answering = self._answers.pop(0), self._servers[-1]
        if self._answer:
            try:
                self._answer = self._answer[self._answering.send(self._answer[:size]) :]
            except OSError:  # as above
                self._answer = b""
            if not self._answer and self.closes:
                self._answering.close()
        self.turn()

    def _heads(self):
        """Those that have come, of requests."""
        return bytes(self._heard[1]).count(b" tcp_proxy\r\n")

    def turn(self):
        self.two.turn(TURNS)
        try:
            self._servers.append(self.two.stack.enter_context(self.two.target.accept()[0]))
            self._servers[-1].setblocking(False)
            self.two.turn(TURNS)
        except BlockingIOError:
            pass
        if self.client.fileno() >= 0:
            self._client_ended |= self._read(self.client, self._heard[0], b"<reset>")
        for server in self._servers:
            if server.fileno() >= 0:
                self._read(server, self._heard[1])

    def end(self):
        """The rest, in large pieces, until we close the client's connection."""

        def ended():
            self.say(1 << 20)
            self.answer(1 << 20)
            return self._client_ended

        self.two.until(ended)
        self.client.close()
        two = self.two
        two.until(lambda: two.records)
        self.turn()
        requests = [(record[1], *record[5:11], record[15], record[17]) for record in two.requests]
        return Said(DATE.sub(b"", bytes(self._heard[0])), bytes(self._heard[1]), requests)

    @staticmethod
    def _read(sock, into, reset=b""):
        """Whether it has ended."""
        try:
            while data := sock.recv(1 << 16):
                into.extend(data)
        except BlockingIOError:
            return False
        except OSError:
            into.extend(reset)
        return True
