"""Clients and targets that do anything at any moment, by a seed: nobody gets another one's answer, or half of one as whole.

All ends are played here, in one thread with the loop, so that what happens between two of its rounds is up to the dice.
"""

import random
import re
import socket
from contextlib import suppress

import pytest

from tcp_proxy.config.model import Http, Timeouts
from tests.dataplane.house import reset
from tests.dataplane.http.rig import HttpHouse

TIMES = Timeouts(connect=2.0, response=20.0, request=10.0, next_request=15.0, half_closed=10.0)
SIZES = (0, 1, 5, 100, 5000, 70_000, 300_000, 1_500_000)
SEEDS, CLIENTS = range(15), 25


def pattern(name, size):
    return (name * (size // len(name) + 1))[:size]


def chunked(data, dice):
    pieces, at = [], 0
    while at < len(data):
        size = dice.choice((7, 1000, 65536, 300_000)) if len(data) > 1000 else dice.choice((1, 3, 100))
        pieces.append(b"%x\r\n%b\r\n" % (len(data[at : at + size]), data[at : at + size]))
        at += size
    return b"".join(pieces) + dice.choice((b"0\r\n\r\n", b"0\r\nT: x\r\n\r\n"))


class Reader:
    """The messages of a stream, as far as they have come; `until_close` says that the rest belongs to the last."""

    def __init__(self):
        self.data = b""
        self.head = None
        self.body = b""
        self.left = 0
        self.until_close = False

    def feed(self, data):
        self.data += data

    def next_head(self):
        lines, end, rest = self.data.partition(b"\r\n\r\n")
        if not end:
            return False
        self.head, self.data, self.body = lines, rest, b""
        return True

    def field(self, name):
        found = re.search(rb"\r\n" + name + rb": ([^\r]*)", self.head, re.IGNORECASE)
        return found[1] if found else None

    def take_body(self, bodiless=False):
        """Whether it is whole."""
        length = self.field(b"Content-Length")
        if bodiless:
            return True
        if self.field(b"Transfer-Encoding"):
            return self._take_chunks()
        if length is None:
            self.body += self.data
            self.data = b""
            return not self.until_close
        missing = int(length) - len(self.body)
        self.body, self.data = self.body + self.data[:missing], self.data[missing:]
        return len(self.body) == int(length)

    def _take_chunks(self):
        while True:
            line, end, rest = self.data.partition(b"\r\n")
            if not end:
                return False
            size = int(line, 16)
            if not size:
                trailers = re.match(rb"0\r\n(T: x\r\n)?\r\n", self.data)
                if trailers is None:
                    return False
                self.data = self.data[trailers.end() :]
                return True
            if len(rest) < size + 2:
                return False
            assert rest[size : size + 2] == b"\r\n"
            self.body, self.data = self.body + rest[:size], rest[size + 2 :]


class End:
    """One end of a connection: bytes to send in odd pieces, and a reader. `calm`: it breaks nothing off."""

    calm = False

    def __init__(self, sock, dice):
        sock.setblocking(False)
        self.sock, self.dice, self.out, self.reader = sock, dice, b"", Reader()
        self.ended = ""  # how the other side ended its direction
        self.gone = self.failed = False
        self.is_tcp = sock.family != socket.AF_UNIX
        if self.is_tcp:  # else bytes wait for an acknowledgement that comes 40 ms later: for the dice many seconds
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sulks = 0  # turns in which it does not read

    def push(self):
        size = self.dice.choice((1, 10, 1000) if len(self.out) < 5000 else (30_000, 1 << 20))
        if self.out and self.ended != "rst":
            try:
                urgent = socket.MSG_OOB if self.is_tcp and self.dice.random() < 0.02 else 0
                self.out = self.out[self.sock.send(self.out[:size], socket.MSG_NOSIGNAL | urgent) :]
            except BlockingIOError:
                pass
            except OSError:  # told once: a later read meets a plain end
                self.out, self.failed = b"", True

    def pull(self):
        if self.sulks:
            self.sulks -= 1
            return
        if self.dice.random() < 0.002:
            self.sulks = self.dice.choice((3, 30, 300))
        for _ in range(4):
            try:
                data = self.sock.recv(self.dice.choice((1, 100, 65536, 1 << 20)))
            except BlockingIOError:
                return
            except OSError:
                self.ended = "rst"
                return
            if not data:
                self.ended = "rst" if self.failed else "fin"
                return
            self.reader.feed(data)

    def leave(self):
        self.gone = True
        if self.is_tcp and self.dice.random() < 0.5:
            reset(self.sock)
        else:
            self.sock.close()


class Client(End):
    """Asks some requests, one after another or all at once, and checks each answer."""

    def __init__(self, sock, dice, number):
        super().__init__(sock, dice)
        self.asked, self.answers = [], 0
        self.finned = self.is_last = False
        self.is_old = dice.random() < 0.15  # speaks HTTP/1.0: knows no chunks and no hints
        for request in range(dice.choice((1, 1, 2, 5))):
            name, size = b"c%dr%d" % (number, request), dice.choice(SIZES)
            method = dice.choice((b"POST", b"PUT", b"PATCH") if size else (b"GET", b"HEAD", b"POST", b"DELETE"))
            head = b"%b /%b HTTP/1.1\r\nHost: a\r\n" % (method, name)
            if self.is_old:
                head = b"%b /%b HTTP/1.0\r\nConnection: keep-alive\r\n" % (method, name)
            elif dice.random() < 0.1:
                head += b"Connection: close\r\n"
            body = pattern(name, size)
            if size and dice.random() < 0.2:
                head += b"Expect: 100-continue\r\n"
            if size and not self.is_old and dice.random() < 0.5:
                wire = head + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(body, dice)
            else:
                wire = head + (b"Content-Length: %d\r\n" % size if size else b"") + b"\r\n" + body
            self.asked.append((name, method))
            self.out += wire

    def act(self):
        self.push()
        self.pull()
        self._judge()
        if self.ended or (not self.calm and self.dice.random() < 0.0005):
            self.leave()
        elif not self.out and not self.finned and self.dice.random() < 0.01:
            self.finned = True
            with suppress(OSError):
                self.sock.shutdown(socket.SHUT_WR)

    def _judge(self):
        reader = self.reader
        while True:
            if reader.head is None:
                if not reader.next_head():
                    break
                code = int(reader.head.split(b" ")[1])
                if code < 200:
                    assert not self.is_old
                    reader.head = None
                    continue
                assert self.answers < len(self.asked), f"an answer to nothing: {reader.head}"
                reader.until_close = True
            if not self._is_whole():
                break
            self.is_last = reader.field(b"Connection") == b"close"
            reader.head = None
            self.answers += 1
        assert not self.calm or self.ended != "rst", f"reset after {self.answers} of {self.asked}"
        if self.ended == "fin":
            assert self.is_last or self.answers == len(self.asked) or not self.calm
            assert reader.head is None, f"half an answer, told as whole: {reader.head[:300]} {len(reader.body)}"
            assert not reader.data

    def _is_whole(self):
        reader = self.reader
        name, method = self.asked[self.answers]
        assert not (self.is_old and reader.field(b"Transfer-Encoding"))
        whole = reader.take_body(method == b"HEAD")
        code = int(reader.head.split(b" ")[1])
        if code != 200:
            assert code in (502, 503, 504, 408), reader.head
            return whole
        assert reader.field(b"X-For") == name, f"{name} got {reader.head}"
        size = int(reader.field(b"X-Size")) if method != b"HEAD" else 0
        assert pattern(name, size).startswith(reader.body)
        if reader.field(b"Content-Length") is None and not reader.field(b"Transfer-Encoding") and method != b"HEAD":
            whole = self.ended == "fin"
        if whole and method != b"HEAD":
            assert len(reader.body) == size, f"{name}: {len(reader.body)} of {size}"
        return whole


class Server(End):
    """A target's end: answers in any framing, early or late, whole or not."""

    def __init__(self, sock, dice, seen):
        super().__init__(sock, dice)
        self.seen = seen
        self.answered = False
        self.wait = 0
        self.last = ""  # what happens when all is sent

    def act(self):
        self.push()
        self.pull()
        if self.ended:
            return self.leave()
        if self.wait:
            self.wait -= 1
            return None
        if self.last and not self.out:
            if self.last == "fin":
                with suppress(OSError):
                    self.sock.shutdown(socket.SHUT_WR)
                self.last = "wait"
            elif self.last != "wait":
                self.leave()
            return None
        return self._serve()

    def _serve(self):
        reader, dice = self.reader, self.dice
        if reader.head is None:
            if not reader.next_head():
                return
            method, path, _ = reader.head.split(b"\r\n")[0].split(b" ")
            self.method, self.name = method, path[1:]
            self.seen.append((method, self.name))
            reader.until_close = False
            self.answered = False
            if not self.calm and dice.random() < 0.02:
                self.leave()
                return
            if reader.field(b"Expect") and dice.random() < 0.8:
                self.out += b"HTTP/1.1 100 Continue\r\n\r\n"
            if dice.random() < 0.1:  # before the body has come
                self._answer()
            self.wait = dice.choice((0, 0, 0, 5, 50))
        framed = reader.field(b"Content-Length") or reader.field(b"Transfer-Encoding")
        if framed and not reader.take_body():
            if self.answered and not self.calm and dice.random() < 0.01:
                self.leave()
            return
        assert pattern(self.name, len(reader.body)) == reader.body
        if not self.answered:
            self._answer()
        reader.head = None

    def _answer(self):
        dice, name = self.dice, self.name
        self.answered = True
        size = dice.choice(SIZES)
        body = pattern(name, size)
        kind = dice.choice(("length", "length", "length", "chunked", "until close", "close"))
        head = b"HTTP/1.1 200 OK\r\nX-For: %b\r\nX-Size: %d\r\n" % (name, size)
        if kind == "chunked":
            wire = head + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(body, dice)
        elif kind == "until close":
            wire = head + b"\r\n" + body
            self.last = "fin" if self.calm else dice.choice(("fin", "fin", "leave"))
        else:
            close = b"Connection: close\r\n" if kind == "close" else b""
            wire = head + b"Content-Length: %d\r\n%b\r\n" % (size, close) + body
            self.last = "fin" if kind == "close" else ""
        if self.method == b"HEAD":
            wire = wire.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
        if kind != "until close" and not self.calm and dice.random() < 0.05:  # it breaks off
            wire, self.last = wire[: dice.randrange(len(wire))], dice.choice(("fin", "leave"))
        elif not self.last and dice.random() < 0.05:  # and more than was asked for
            wire += b"HTTP/1.1 200 OK\r\nX-For: poison\r\nX-Size: 0\r\nContent-Length: 0\r\n\r\n"
        elif not self.last and not self.calm and dice.random() < 0.05:  # it closes when it has answered, without a word
            self.last = "leave"
        hints = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" * dice.choice((0, 0, 0, 1, 3))
        self.out += hints + wire


class Storm:
    """All of them, in a house."""

    def __init__(self, seed, house):
        self.dice, self.house = random.Random(seed), house
        self.seen, self.clients, self.servers = [], [], []
        for listener in house.servers:
            listener.setblocking(False)

    def step(self):
        house, dice = self.house, self.dice
        if len(self.clients) < CLIENTS and dice.random() < 0.02:
            sock, _ = house.client()
            self.clients.append(Client(sock, dice, len(self.clients)))
        for listener in house.servers:
            with suppress(BlockingIOError):
                self.servers.append(Server(house.stack.enter_context(listener.accept()[0]), dice, self.seen))
        for end in dice.sample(self.clients, len(self.clients)) + dice.sample(self.servers, len(self.servers)):
            if not end.gone and dice.random() < 0.7:
                end.act()
        house.turn()
        if dice.random() < 0.002:
            house.pass_time(dice.choice((0.5, 5.0)))

    def is_over(self):
        return len(self.clients) == CLIENTS and not self.house.thread.members

    def judge(self):
        """Nothing is left, and nothing that has an effect came twice."""
        for method, name in set(self.seen):
            if method in (b"POST", b"PATCH"):
                assert self.seen.count((method, name)) == 1, f"{method} {name} came twice"
        for end in (*self.clients, *self.servers):
            end.sock.close()
        self.house.turn(5)
        self.house.until(lambda: not self.house.thread.members)
        self.house.pass_time(100.0)
        assert self.house.http.shared.upstreams.open == 0
        return sum(client.answers for client in self.clients)


def storm(seed, calm=False):
    End.calm = calm
    http = Http(upstream_connections=(0, 1, 10)[seed % 3])
    with HttpHouse(http, timeouts=TIMES, targets=2, family="unix" if seed % 4 == 3 else "tcp") as house:
        all_of_them = Storm(seed, house)
        for step in range(20_000):
            all_of_them.step()
            if all_of_them.is_over():
                break
            if step > 3000 and step % 100 == 0:
                house.pass_time(1.0)
        return all_of_them.judge()


@pytest.mark.parametrize("seed", SEEDS)
def test_a_storm(seed):
    assert storm(seed) >= 5


@pytest.mark.parametrize("seed", SEEDS)
def test_a_calm_day(seed):
    """Nobody breaks anything off: every client is answered, and nobody is reset, though targets answer early and close."""
    assert storm(seed, calm=True) >= 25
