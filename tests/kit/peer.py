"""One end of a connection, played by the test: send, expect, fin, rst, or simply not reading, each with a deadline.

    client = connect(port)             target.accept() gives the other end, so that a test reads as a dialogue:
    client.send(b"question").fin()     server = target.accept()
                                       server.expect(b"question").expect_fin()
                                       server.send(b"late answer").fin()
    client.expect(b"late answer").expect_fin()

A Peer counts what it moved (`sent`, `received`); a step that does not happen in time fails with what came instead.
"""

import errno
import fcntl
import hashlib
import select
import socket
import struct
import termios

from kit.waiting import PATIENCE, Deadline, wait_until

SIOCOUTQ = termios.TIOCOUTQ
LINGER_RST = struct.pack("ii", 1, 0)


class Peer:
    """`sock` is connected and becomes the Peer's own."""

    def __init__(self, sock, name="peer"):
        sock.setblocking(False)
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock = sock
        self.name = name
        self.sent = self.received = 0
        self.ended = ""  # what its last read met: "", "fin" or "rst"
        self.was_reset = False
        self.address = _name_of(sock)
        self.port = _port_of_peer(sock)

    def __repr__(self):
        return f"<{self.name} {self.address} sent={self.sent} received={self.received} {self.ended}>"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    # -- what it does

    def send(self, data, seconds=PATIENCE):
        """All of it, or TimeoutError: use `kit.clogged.fill` for as much as there is room for."""
        view, deadline = memoryview(data), Deadline(seconds)
        while view:
            try:
                count = self.sock.send(view, socket.MSG_NOSIGNAL)
            except BlockingIOError:
                self._wait(select.POLLOUT, deadline, f"could send only {len(data) - len(view)} of {len(data)} bytes")
                continue
            self.sent += count
            view = view[count:]
        return self

    def send_urgent(self, byte):
        self.sock.send(byte, socket.MSG_OOB)
        self.sent += 1
        return self

    def fin(self):
        """Says that it sends no more; it may still read."""
        self.sock.shutdown(socket.SHUT_WR)
        return self

    def rst(self):
        """Resets the connection, now, whatever was not sent yet."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RST)
        self.was_reset = True
        self.sock.close()

    def close(self):
        self.sock.close()

    # -- what it sees

    def expect(self, data, seconds=PATIENCE):
        """Exactly these bytes come next."""
        got = self.receive(len(data), seconds)
        assert got == data, f"{self!r} got {_shown(got)} in place of {_shown(data)}"
        return self

    def receive(self, count, seconds=PATIENCE):
        """The next `count` bytes; AssertionError when the connection ends before."""
        parts, missing, deadline = [], count, Deadline(seconds)
        while missing:
            part = self._recv(missing, deadline, f"got only {count - missing} of {count} bytes")
            assert part, f"{self!r} ended after {count - missing} of {count} bytes: {_shown(b''.join(parts))}"
            parts.append(part)
            missing -= len(part)
        return b"".join(parts)

    def read_first(self, seconds=PATIENCE):
        """Whatever comes first, b"" for an end."""
        return self._recv(65536, Deadline(seconds), "nothing came")

    def receive_line(self, seconds=PATIENCE):
        """Up to and with a newline."""
        line = bytearray()
        while not line.endswith(b"\n"):
            line += self.receive(1, seconds)
        return bytes(line)

    def read_to_end(self, seconds=PATIENCE):
        """Everything until FIN or RST; `ended` says which."""
        parts, deadline = [], Deadline(seconds)
        while part := self._recv(1 << 20, deadline, lambda: f"still no end after {sum(map(len, parts))} bytes"):
            parts.append(part)
        return b"".join(parts)

    def digest_to_end(self, seconds=PATIENCE):
        """Like read_to_end, for more than fits in memory: (count, SHA-256)."""
        digest, count, deadline = hashlib.sha256(), 0, Deadline(seconds)
        while part := self._recv(1 << 20, deadline, "still no end"):
            digest.update(part)
            count += len(part)
        return count, digest.hexdigest()

    def expect_fin(self, seconds=PATIENCE):
        """The other side ends its direction: no more bytes, no reset."""
        return self._expect_end("fin", seconds)

    def expect_rst(self, seconds=PATIENCE):
        """The connection is reset, and no byte comes before. After a FIN only the socket's error can tell."""
        if self.ended == "fin":
            self._wait(select.POLLERR, Deadline(seconds), "no rst came")
            code = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            assert code in {errno.ECONNRESET, errno.EPIPE}, f"{self!r} ended by {errno.errorcode.get(code, code)}"
            self.ended = "rst"
            return self
        if self.ended == "rst":
            return self
        return self._expect_end("rst", seconds)

    def expect_silence(self, seconds):
        """Nothing happens at all for that long."""
        ready = self._poll(select.POLLIN | select.POLLRDHUP, seconds)
        assert not ready, f"{self!r} should have heard nothing, but the socket says {ready}"
        return self

    def wait_readable(self, seconds=PATIENCE):
        self._wait(select.POLLIN, Deadline(seconds), "nothing to read")
        return self

    def wait_acknowledged(self, seconds=PATIENCE):
        """All that was sent has reached the other side's kernel."""
        wait_until(lambda: not self.unacknowledged, lambda: f"{self!r}: {self.unacknowledged} bytes left", seconds)
        return self

    @property
    def unacknowledged(self):
        """Bytes that were sent and not acknowledged yet."""
        return struct.unpack("i", fcntl.ioctl(self.sock, SIOCOUTQ, b"\0" * 4))[0]

    # -- helpers

    def _expect_end(self, wanted, seconds):
        got = self._recv(65536, Deadline(seconds), f"no {wanted} came")
        assert not got, f"{self!r} got {_shown(got)} where {wanted} was expected"
        assert self.ended == wanted, f"{self!r} ended by {self.ended}, not {wanted}"
        return self

    def _recv(self, most, deadline, self_report):
        while not self.ended:  # the kernel reports a reset once
            try:
                part = self.sock.recv(most)
            except BlockingIOError:
                self._wait(select.POLLIN, deadline, self_report)
                continue
            except OSError as error:
                if error.errno not in (errno.ECONNRESET, errno.EPIPE):
                    raise
                self.ended = "rst"
                return b""
            self.received += len(part)
            if not part:
                self.ended = "fin"
            return part
        return b""

    def _wait(self, events, deadline, self_report):
        if not self._poll(events, deadline.left):
            raise TimeoutError(f"{self!r}: {self_report() if callable(self_report) else self_report}")

    def _poll(self, events, seconds):
        poll = select.poll()
        poll.register(self.sock, events)
        return [event for _, event in poll.poll(seconds * 1000)]


class Target:
    """A scripted server: it listens, and each `accept` gives one Peer. Connections that nobody accepts wait."""

    def __init__(self, port=0, host="127.0.0.1", path=None, name="target", backlog=128, receive_buffer=0):
        self.name = name
        self.host, self.path, self._backlog = host, path, backlog
        family = socket.AF_UNIX if path else socket.AF_INET6 if ":" in host else socket.AF_INET
        self.sock = socket.socket(family)
        if path is None:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if receive_buffer:  # inherited by what is accepted
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.sock.bind(str(path) if path else (host, port))
        self.sock.listen(backlog)
        self.sock.setblocking(False)
        self.port = 0 if path else self.sock.getsockname()[1]
        self.peers = []

    def __repr__(self):
        return f"<Target {self.name} {self.address} accepted={len(self.peers)}>"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    @property
    def address(self):
        """As the configuration writes it."""
        return f"unix:{self.path}" if self.path else _written(self.host, self.port)

    def accept(self, seconds=PATIENCE):
        """The next connection, whoever made it: an app with health checks connects for its probes too."""
        deadline = Deadline(seconds)
        while True:
            try:
                sock, _ = self.sock.accept()
            except BlockingIOError:
                self._wait_client(deadline)
                continue
            self.peers.append(peer := Peer(sock, f"{self.name}'s end"))
            return peer

    def has_client(self, seconds=0.0):
        """Whether somebody waits to be accepted."""
        poll = select.poll()
        poll.register(self.sock, select.POLLIN)
        return bool(poll.poll(seconds * 1000))

    def close(self):
        self.sock.close()
        for peer in self.peers:
            peer.close()

    def _wait_client(self, deadline):
        if not self.has_client(deadline.left):
            raise TimeoutError(f"{self!r}: nobody connects")


def connect(port, host="127.0.0.1", source="", buffers=0, segment=0, seconds=PATIENCE, name="client"):
    """A client that is connected. `source`: from which address; `buffers`: bytes of its kernel buffers; `segment`: MSS."""
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        if buffers:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffers)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffers)
        if segment:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, segment)
        if source:
            sock.bind((source, 0))
        sock.settimeout(seconds)
        try:
            sock.connect((host, port))
        except ConnectionResetError:  # it was connected: the reset came before connect() returned
            peer = Peer(sock, name)
            peer.ended = "rst"
            return peer
        return Peer(sock, name)
    except BaseException:
        sock.close()
        raise


def _name_of(sock):
    name = sock.getsockname()
    return (name or "unix") if sock.family == socket.AF_UNIX else _written(name[0], name[1])


def _port_of_peer(sock):
    """0 where there is none, or none yet."""
    try:
        return 0 if sock.family == socket.AF_UNIX else sock.getpeername()[1]
    except OSError:
        return 0


def _written(host, port):
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _shown(data):
    return repr(data) if len(data) <= 80 else f"{data[:40]!r}... ({len(data)} bytes)"
