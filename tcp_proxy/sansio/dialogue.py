"""What is said to a server, and whether a healthy one answers so: the words of health checks, without their sockets.

Pure. A Dialogue is a generator: it yields what is to be sent (b"" for nothing more) and is sent what has arrived, in
whatever pieces; b"" is the end of the stream; Silence is thrown in when its time is over. It returns a Reply, or raises
Refused: the answer is not as it should be.
How long that may take, and how much may be read, is its driver's affair (control.health.talk).
"""

import re
from collections.abc import Callable, Generator
from contextlib import suppress

from tcp_proxy.sansio.escapes import escaped
from tcp_proxy.sansio.frozen_dataclass import dataclass
from tcp_proxy.sansio.pattern import Finder

_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-5][0-9][0-9])(?: ([^\r\n]*))?\r?\n")


class Refused(Exception):
    """The answer is not that of a healthy server; the message says what it was."""


class Silence(Exception):
    """The time is over. A dialogue that has heard enough by then catches it and returns its Reply."""


@dataclass(frozen=True, slots=True)
class Reply:
    """`text` is the evidence; `farewell` is sent to the server in parting."""

    text: str
    farewell: bytes = b""


Dialogue = Generator[bytes, bytes, Reply]
Taken = Generator[bytes, bytes, bytes]


class Inbox:
    """What has arrived and is not used up."""

    def __init__(self) -> None:
        self.data = bytearray()

    def __repr__(self) -> str:
        return f"<Inbox {bytes(self.data)!r}>"

    def take(self, count: Callable[[bytearray], int], saying: bytes = b"") -> Taken:
        """Say something, then wait until `count` knows how many bytes are wanted: these."""
        if saying:
            yield from self.more(saying)
        while not (wanted := count(self.data)) or len(self.data) < wanted:
            yield from self.more()
        taken = bytes(self.data[:wanted])
        del self.data[:wanted]
        return taken

    def more(self, saying: bytes = b"") -> Generator[bytes, bytes, None]:
        arrived = yield saying
        if not arrived:
            said = f"after {escaped(self.data)}" if self.data else "without an answer"
            raise Refused(f"ended the connection {said}")
        self.data += arrived

    def line(self, saying: bytes = b"") -> Taken:
        """With its end."""
        return self.take(lambda data: data.find(b"\n") + 1, saying)


def silent(text: str) -> Dialogue:
    """Nothing: that the server is there is enough."""
    yield from ()
    return Reply(text)


def listening(text: str) -> Dialogue:
    """The same, but that the server may say something against it, in a layer below: whatever comes else is welcome."""
    with suppress(Silence):
        yield b""
    return Reply(text)


def exchange(send: bytes, expected: Finder) -> Dialogue:
    """Say something, or nothing, and wait for what is expected, anywhere in the answer."""
    inbox = Inbox()
    yield from inbox.more(send)
    while (found := expected(inbox.data)) is None:
        yield from inbox.more()
    return Reply(f"answered {escaped(found or bytes(inbox.data))}")


def http(request: bytes, statuses: tuple[str, ...]) -> Dialogue:
    """A request; its status decides, when the head is there. `statuses`: "204", or a class, "2xx". The body is not read."""
    inbox = Inbox()
    while True:
        line = yield from inbox.line(request)
        request = b""
        match = _STATUS_LINE.fullmatch(line)
        if match is None:
            raise Refused(f"answered {escaped(line)}, which is not HTTP/1")
        while (yield from inbox.line()) not in (b"\r\n", b"\n"):
            pass
        status = match[1].decode()
        if status[0] != "1" or status == "101":  # others announce the answer that counts
            break
    text = f"status {status}" + (f" {escaped(match[2])[1:-1]}" if match[2] else "")
    if status not in statuses and f"{status[0]}xx" not in statuses:
        raise Refused(f"{text}, wanted {' or '.join(statuses)}")
    return Reply(text)
