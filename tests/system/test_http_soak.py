"""Many clients, pipelined requests and answers in every framing, cut anywhere: every answer is the one to its request.

Both ends are written here, on sockets, and choose by a seed; each answer holds the digest of the body it answers.
"""

import contextlib
import hashlib
import random
import socket
import threading

from kit.peer import PATIENCE

SIZES = (0, 0, 5, 1000, 70_000, 400_000, 1_500_000)


class Wire:
    """A socket read by lines, heads and bodies."""

    def __init__(self, sock):
        sock.settimeout(PATIENCE)
        self.sock, self.rest = sock, b""

    def _until(self, mark):
        while mark not in self.rest:
            data = self.sock.recv(65536)
            if not data:
                raise EOFError
            self.rest += data
        found, _, self.rest = self.rest.partition(mark)
        return found

    def head(self):
        lines = self._until(b"\r\n\r\n").split(b"\r\n")
        return lines[0], {name.lower(): value for name, _, value in (line.partition(b": ") for line in lines[1:])}

    def _take(self, size):
        parts, have = [self.rest], len(self.rest)
        while have < size:
            parts.append(self.sock.recv(1 << 20))
            if not parts[-1]:
                raise EOFError
            have += len(parts[-1])
        whole = b"".join(parts)
        self.rest = whole[size:]
        return whole[:size]

    def body(self, fields):
        if fields.get(b"transfer-encoding") == b"chunked":
            pieces = []
            while size := int(self._until(b"\r\n"), 16):
                pieces.append(self._take(size))
                assert self._take(2) == b"\r\n"
            while self._until(b"\r\n"):
                pass
            return b"".join(pieces)
        return self._take(int(fields.get(b"content-length", 0)))

    def to_end(self):
        parts = [self.rest]
        while data := self.sock.recv(1 << 20):
            parts.append(data)
        return b"".join(parts)

    def send(self, data, dice):
        if dice.random() < 0.4:
            self.sock.sendall(data)
            return
        at = 0
        while at < len(data):
            size = dice.choice((1, 7, 100, 1460, 65536) if len(data) < 5000 else (1460, 65536, 300_000))
            self.sock.sendall(data[at : at + size])
            at += size


def chunked(data, dice):
    pieces, at = [], 0
    while at < len(data):
        size = dice.choice((1, 10, 1000, 65536) if len(data) < 3000 else (1000, 65536, 300_000))
        piece = data[at : at + size]
        pieces.append(b"%x\r\n%b\r\n" % (len(piece), piece))
        at += size
    return b"".join(pieces) + dice.choice((b"0\r\n\r\n", b"0\r\nX-Trailer: y\r\n\r\n"))


def answer_to(path, body):
    return hashlib.md5(body).hexdigest().encode() + path + b"z" * int(path.partition(b"=")[2])


class Target:
    """Answers in any framing, with hints before, and closes now and then."""

    def __init__(self, seed):
        self.seed = seed
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.address = f"127.0.0.1:{self.listener.getsockname()[1]}"
        self.socks = []
        self.threads = [threading.Thread(target=self._accept, name="target")]
        self.threads[0].start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.threads[0].join()
        for sock in self.socks:  # the proxy keeps some for its next request
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self.threads[1:]:
            thread.join()
        self.listener.close()

    def _accept(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            self.socks.append(sock)
            dice = random.Random(self.seed + len(self.threads))
            self.threads.append(threading.Thread(target=self._serve, args=(sock, dice), name="target's"))
            self.threads[-1].start()

    def _serve(self, sock, dice):
        with sock:
            try:
                while self._one(Wire(sock), dice):
                    pass
            except (EOFError, OSError):
                pass

    def _one(self, wire, dice):
        line, fields = wire.head()
        method, path, _ = line.split(b" ")
        answer = answer_to(path, wire.body(fields))
        kind = dice.choice(("length", "length", "chunked", "chunked", "close", "until close"))
        version = b"1.0" if kind == "until close" else b"1.1"
        head = dice.choice((b"", b"", b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n")) + b"HTTP/%b 200 OK\r\n" % version
        if kind == "chunked":
            head, answer = head + b"Transfer-Encoding: chunked\r\n", chunked(answer, dice)
        elif kind != "until close":
            head += b"Content-Length: %d\r\n" % len(answer)
        if kind == "close":
            head += b"Connection: close\r\n"
        wire.send(head + b"\r\n" + (b"" if method == b"HEAD" else answer), dice)
        return kind in ("length", "chunked")


def request(dice):
    size = dice.choice(SIZES)
    method = dice.choice((b"POST", b"PUT") if size else (b"GET", b"HEAD"))
    body, path = dice.randbytes(size), b"/%d=%d" % (dice.randrange(10**6), dice.choice(SIZES))
    head = b"%b %b HTTP/1.1\r\nHost: a\r\n" % (method, path)
    if not body:
        return method, path, body, head + b"\r\n"
    if dice.random() < 0.5:
        return method, path, body, head + b"Content-Length: %d\r\n\r\n" % size + body
    return method, path, body, head + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(body, dice)


def ask(port, dice, counts):
    """Pipelines on one connection until it is to be closed."""
    with socket.create_connection(("127.0.0.1", port)) as sock:
        wire, is_open = Wire(sock), True
        while is_open and dice.random() < 0.9:
            asked = [request(dice) for _ in range(dice.choice((1, 1, 2, 4)))]
            sender = threading.Thread(target=_send, args=(wire, b"".join(one[3] for one in asked), dice), name="sender")
            sender.start()
            try:
                for method, path, body, _ in asked:
                    is_open = is_open and _compare(wire, method, path, body)
                    counts.append(is_open)
            finally:
                sock.shutdown(socket.SHUT_RDWR) if not is_open else None
                sender.join()


def _send(wire, data, dice):
    try:
        wire.send(data, random.Random(dice.random()))
    except OSError:
        pass  # an answer has ended the connection


def _compare(wire, method, path, body):
    while True:
        line, fields = wire.head()
        if not line.startswith(b"HTTP/1.1 1"):
            break
    stays = fields.get(b"connection") != b"close"
    if line.startswith(b"HTTP/1.1 502 ") and method in (b"POST", b"PUT"):  # the target had closed what was kept
        wire.body(fields)
        return stays
    assert line == b"HTTP/1.1 200 OK"
    if method == b"HEAD":
        return stays
    framed = {b"content-length", b"transfer-encoding"} & fields.keys()
    assert (wire.body(fields) if framed else wire.to_end()) == answer_to(path, body)
    return stays


def test_every_answer_is_to_its_request(http, servers):
    target = servers.enter_context(Target(7))
    program = http(target.address)
    faults, counts = [], []

    def client(number):
        dice = random.Random(number)
        try:
            for _ in range(6):
                ask(program.port, dice, counts)
        except BaseException as error:  # noqa: BLE001  told below
            faults.append((number, repr(error)))

    threads = [threading.Thread(target=client, args=(n,), name=f"client-{n}") for n in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults
    assert len(counts) > 150
