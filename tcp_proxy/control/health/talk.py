"""A probe that talks: it connects, begins TLS if that is wanted, and leads a dialogue (sansio.dialogue).

    CONNECTING ──> (HANDSHAKE ──>) TALKING ──the dialogue's reply──> success
    anything ──an answer it refuses, more than LIMIT, an error, the end, time over──> failure · local error ──> no verdict

Runs in a health thread, on its loop; a probe owns what `connecting` says.

Always true: what the target has said is judged before how its connection ended: one that answers and resets at once has
answered (test_an_answer_before_a_reset_…); no more than LIMIT bytes of an answer are heard, and a record of TLS beyond.
"""

import contextlib
import errno
from typing import TYPE_CHECKING

from tcp_proxy.config.model import Check
from tcp_proxy.control.health.connecting import Connecting
from tcp_proxy.control.health.probe import Done, Secured
from tcp_proxy.runtime.loop import READ, WRITE, Loop
from tcp_proxy.sansio.dialogue import Dialogue, Refused, Reply, Silence
from tcp_proxy.sansio.escapes import escaped
from tcp_proxy.sansio.reasons import Attempt, attempt
from tcp_proxy.wire.views import Endpoint

if TYPE_CHECKING:
    from tcp_proxy.control.health.tls import Tls

LIMIT = 65536  # bytes of an answer
CHUNK = 16384
EVIDENCE = 100  # bytes of it that are kept, for the case that no more comes


class Talk(Connecting):
    """`secured`: how TLS is spoken; None: not at all."""

    def __init__(
        self, loop: Loop, endpoint: Endpoint, check: Check, done: Done,
        name: str, dialogue: Dialogue, secured: Secured | None,
    ) -> None:  # fmt: skip
        self._dialogue = dialogue
        self._secured = secured
        self._tls: Tls | None = None
        self._unsent = bytearray()
        self._heard = bytearray()  # the beginning of the answer, as evidence
        self._count = 0
        self._is_open = self._has_begun = False
        self._reset = 0  # what sending has met, or SO_ERROR: nothing is sent any more, and what has come is still heard
        self._events = WRITE
        super().__init__(loop, endpoint, check, done, name)

    def _silence(self) -> str:
        if self._heard:
            return f"nothing but {escaped(bytes(self._heard))}"
        return "no answer" if self._tls is None or self._tls.is_ready else "no end of the TLS handshake"

    def _established(self) -> None:
        assert self._socket is not None
        self._is_open = True
        self._loop.attend(self._socket.fileno(), WRITE, self._step)
        if self._secured is not None:
            from tcp_proxy.control.health.tls import Tls  # noqa: PLC0415  ssl is imported for the first check that needs it

            try:
                self._tls = Tls(self._secured)
                self._tls.feed(b"")
            except OSError as error:
                self._tell(False, f"TLS failed: {error}")
                return
        self._step(0)

    def _was_reset(self, code: int) -> None:
        self._reset = code
        self._established()

    def _look_again(self) -> None:
        super()._look_again()
        if self._is_open and self._done is not None:
            self._step(0)
        if self._has_begun and self._done is not None:
            try:
                self._dialogue.throw(Silence())
            except StopIteration as end:
                self._part(end.value)
            except (Silence, Refused):  # what `_silence` says then
                pass

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
        if not self._has_begun and self._tls is None:
            self._begin()
        while self._done is not None:
            self._flush()
            data = sock.recv(CHUNK if self._tls is not None else min(CHUNK, LIMIT - self._count))
            if not data and self._reset:
                self._broke(self._reset)
            elif self._tls is None:
                self._hear(data)
            else:
                self._decrypt(self._tls, data)

    def _begin(self) -> None:
        self._has_begun = True
        try:
            self._say(next(self._dialogue))
        except StopIteration as end:  # nothing is to be said
            self._part(end.value)

    def _say(self, data: bytes) -> None:
        if self._tls is not None:
            self._tls.say(data)
        else:
            self._unsent += data

    def _flush(self) -> None:
        """Send what can be sent. A target that takes nothing may have answered: that is for `recv` to find out."""
        if self._tls is not None:
            self._unsent += self._tls.unsent()
        assert self._socket is not None
        try:
            while self._unsent and not self._reset:
                del self._unsent[: self._socket.send(self._unsent)]
        except BlockingIOError:
            return
        except OSError as error:
            self._reset = error.errno or errno.EIO
            if attempt(self._reset) is not Attempt.RESET:
                raise
        if self._reset:
            self._unsent.clear()

    def _decrypt(self, tls: "Tls", data: bytes) -> None:
        plain = tls.feed(data)
        if not tls.is_ready:
            if not data:
                self._tell(False, "ended the connection in the TLS handshake")
            return
        if not self._has_begun:
            self._begin()
        if self._done is not None and (plain or not data or tls.is_over):
            self._hear(plain)

    def _hear(self, data: bytes) -> None:
        self._count += len(data)
        if len(self._heard) < EVIDENCE:
            self._heard += data[:EVIDENCE]
        try:
            self._say(self._dialogue.send(data))
        except StopIteration as end:
            self._part(end.value)
        else:
            if self._count >= LIMIT:
                self._tell(False, f"{LIMIT} bytes came, and not the answer that was wanted")

    def _part(self, reply: Reply) -> None:
        with contextlib.suppress(OSError):  # few bytes; whether they arrive changes nothing
            self._say(reply.farewell)
            if self._tls is not None:
                self._tls.part()
            self._flush()
        self._tell(True, reply.text)

    def _wait(self, events: int) -> None:
        assert self._socket is not None
        if events != self._events:
            self._events = events
            self._loop.rewatch(self._socket.fileno(), events)

    def _trouble(self, error: OSError) -> None:
        if self._tls is not None:
            from tcp_proxy.control.health.tls import fault  # noqa: PLC0415

            if text := fault(error):
                with contextlib.suppress(OSError):  # the alert
                    self._flush()
                self._tell(False, text)
                return
        self._broke(error.errno or errno.EIO)

    def _broke(self, code: int) -> None:
        self._failed(code, f" after {escaped(bytes(self._heard))}" if self._heard else "")
