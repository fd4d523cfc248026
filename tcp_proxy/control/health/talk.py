"""A probe that talks: it connects, begins TLS if that is wanted, and leads a dialogue (sansio.dialogue).

    CONNECTING ──> (HANDSHAKE ──>) TALKING ──the dialogue's reply──> success
    anything ──an answer it refuses, more than LIMIT, an error, the end, time over──> failure · local error ──> no verdict

Runs in a health thread, on its loop; a probe owns what `connecting` says. Never more than LIMIT bytes are read. With TLS
the target's certificate is not checked: the question is whether this address works, not whose it is.
"""

import contextlib
import errno
import functools
from typing import TYPE_CHECKING

from tcp_proxy.config.model import Check
from tcp_proxy.control.health.connecting import Connecting
from tcp_proxy.control.health.probe import Done
from tcp_proxy.loop import READ, WRITE, Loop
from tcp_proxy.messages import Endpoint
from tcp_proxy.sansio.dialogue import Dialogue, Refused, Reply
from tcp_proxy.sansio.escapes import escaped

if TYPE_CHECKING:
    import ssl

LIMIT = 65536  # bytes of an answer
CHUNK = 16384
EVIDENCE = 100  # bytes of it that are kept, for the case that no more comes


class Talk(Connecting):
    """`server_name`: what TLS asks for; None for no TLS."""

    def __init__(
        self, loop: Loop, endpoint: Endpoint, check: Check, done: Done,
        name: str, dialogue: Dialogue, server_name: str | None,
    ) -> None:  # fmt: skip
        self._dialogue = dialogue
        self._server_name = server_name
        self._tls: ssl.SSLSocket | None = None
        self._unsent = bytearray()
        self._heard = bytearray()  # the beginning of the answer, as evidence
        self._count = 0
        self._is_shaken = True  # hands
        self._has_begun = False
        self._events = WRITE
        super().__init__(loop, endpoint, check, done, name)

    def _silence(self) -> str:
        if self._heard:
            return f"nothing but {escaped(bytes(self._heard))}"
        return "no answer" if self._is_shaken else "no end of the TLS handshake"

    def _established(self) -> None:
        assert self._socket is not None
        self._loop.attend(self._socket.fileno(), WRITE, self._step)
        if self._server_name is not None:
            self._wrap(self._server_name)
        self._step(0)

    def _wrap(self, server_name: str) -> None:
        assert self._socket is not None
        self._tls = tls_context().wrap_socket(
            self._socket, do_handshake_on_connect=False, server_hostname=server_name or None
        )
        self._socket = self._tls  # the same descriptor
        self._is_shaken = False

    def _step(self, _events: int) -> None:
        """Everything that can be done now."""
        try:
            self._go_on()
        except BlockingIOError:
            self._wait(READ | WRITE if self._unsent else READ)
        except OSError as error:
            self._trouble(error)
        except Refused as refused:
            self._tell(False, str(refused))

    def _go_on(self) -> None:
        sock = self._socket
        assert sock is not None
        if self._tls is not None and not self._is_shaken:
            self._tls.do_handshake()
            self._is_shaken = True
        if not self._has_begun:
            self._has_begun = True
            self._unsent += next(self._dialogue)
        while self._done is not None:
            while self._unsent:
                del self._unsent[: sock.send(self._unsent)]
            self._hear(sock.recv(min(CHUNK, LIMIT - self._count)))

    def _hear(self, data: bytes) -> None:
        self._count += len(data)
        if len(self._heard) < EVIDENCE:
            self._heard += data[:EVIDENCE]
        try:
            self._unsent += self._dialogue.send(data)
        except StopIteration as end:
            self._part(end.value)
        else:
            if self._count >= LIMIT:
                self._tell(False, f"{LIMIT} bytes came, and not the answer that was wanted")

    def _part(self, reply: Reply) -> None:
        assert self._socket is not None
        with contextlib.suppress(OSError):  # few bytes; whether they arrive changes nothing
            self._socket.send(reply.farewell)
        self._tell(True, reply.text)

    def _wait(self, events: int) -> None:
        assert self._socket is not None
        if events != self._events:
            self._events = events
            self._loop.rewatch(self._socket.fileno(), events)

    def _trouble(self, error: OSError) -> None:
        if self._tls is not None:
            import ssl  # noqa: PLC0415

            if isinstance(error, ssl.SSLWantReadError | ssl.SSLWantWriteError):
                self._wait(READ if isinstance(error, ssl.SSLWantReadError) else WRITE)
                return
            if isinstance(error, ssl.SSLError):
                self._tell(False, f"TLS failed: {(error.reason or str(error)).lower().replace('_', ' ')}")
                return
        self._failed(error.errno or errno.EIO)


@functools.cache
def tls_context() -> "ssl.SSLContext":
    """Imports ssl when the first check needs it, and not before."""
    import ssl  # noqa: PLC0415

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
