"""What a target has said to a request, as far as heads go: read from its socket, cut into heads of answers.

Owned by the loop's thread; a connection to a target (upstreams.py) holds one. What comes behind the last head is its
body's (`take`), which is then read by body.py.
"""

from socket import MSG_DONTWAIT, SocketType
from typing import Any, Final

from tcp_proxy.dataplane.relay.pump import CHUNK
from tcp_proxy.runtime.stream_socket import StreamSocket
from tcp_proxy.sansio.http1.requests import Limits
from tcp_proxy.sansio.http1.responses import Response, read_response

NOTHING_YET: Final = -1
_MOST: Final[Any] = CHUNK  # as in reader.py
_FLAGS: Final[Any] = int(MSG_DONTWAIT)


class ResponseReader:
    """`heard`: bytes that are read and given to nobody; `seen`: so many of them were looked at, and are no whole head.
    `was_full`: the last read got all that it could take, so there may have been more, or the end was read with it."""

    __slots__ = ("_may_have_end", "_sock", "code", "heard", "seen", "was_full")

    def __init__(self, sock: StreamSocket) -> None:
        self._sock: Any = sock
        self._may_have_end = type(sock) is not SocketType  # a TlsSocket may
        self.code = 0
        self.heard = b""
        self.seen = 0
        self.was_full = False

    def __repr__(self) -> str:
        return f"<ResponseReader {len(self.heard)} bytes, {self.seen} seen>"

    def receive(self) -> int:
        """One read; how many bytes. NOTHING_YET, or 0 at the end, of which `code` is the errno, or 0."""
        try:
            data = self._sock.recv(_MOST, _FLAGS)
        except BlockingIOError:
            return NOTHING_YET
        except OSError as error:
            self.code = error.errno or 0
            return 0
        self.heard = self.heard + data if self.heard else data
        self.was_full = len(data) == CHUNK or (self._may_have_end and getattr(self._sock, "has_end", False))
        return len(data)

    def next_response(self, limits: Limits, bodiless: bool) -> Response | None:
        """The next head, if all of it is there. Raises Refused."""
        found = read_response(self.heard, 0, limits, bodiless, self.seen)
        if found is None:
            self.seen = len(self.heard)
            return None
        self.seen = 0
        response, end = found
        self.heard = self.heard[end:]
        return response

    def take(self) -> bytes:
        """What came behind the head of the answer."""
        taken, self.heard = self.heard, b""
        return taken
