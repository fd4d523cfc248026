"""Takes sessions that another process gives away, by a socketpair: the importer's end. exporter.py says how.

Owned by the worker's loop thread; an Importer owns its end and the descriptors that have come and belong to nothing yet.

    a frame ──> known, and could be taken? ──yes──> "taken" is written: one step, which makes it ours ──> it begins here
                  │                                   └─the exporter has shut down, or is gone──> its copies are closed
                  └──no──> "refused" is written, its copies are closed

What has come in one message is answered in one step: all that is said to be taken in it is ours from then on, or none of it.

Nothing of a session is touched, counted or watched before it is ours. Closing a copy says nothing to anybody: as long as the
exporter lives, it has its own; when it has been killed, that ends the session, as all of its sessions end.
"""

import os
import socket
from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any, Protocol

from tcp_proxy.runtime.loop import READ, WRITE, Loop
from tcp_proxy.wire.moved_session import Frame, MovedSession, TakenAnswer, decode, encode_answer, frames

READ_MOST = 1 << 18
READS = 2  # in one turn; each brings what the exporter has sent in one message, or a part of it
TOGETHER = 8  # sessions that are answered in one step at the most
ROOM = 64  # descriptors in one message at the most
# Plain integers: a member of an enum costs 2 us each time.
_TRUNCATED = int(socket.MSG_CTRUNC)
_SEND_FLAGS = int(socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)


class Taker(Protocol):
    """Where sessions arrive."""

    def refusal(self, session: MovedSession, is_foreign: bool, beside: int) -> str:
        """Why it cannot be taken, `beside` so many others, changing nothing; "": it can."""

    def take(self, session: MovedSession, descriptors: Sequence[int], is_foreign: bool) -> Any:
        """It is ours, with its descriptors: begin."""


class Importer:
    """`done(self)` once, when the exporter has ended the stream."""

    def __init__(
        self, loop: Loop, sock: socket.socket, taker: Taker, is_foreign: bool, done: Callable[["Importer"], Any]
    ) -> None:
        """Owns `sock`."""
        self._loop = loop
        self._socket = sock
        self._taker = taker
        self._is_foreign = is_foreign
        self._done = done
        self._in = bytearray()
        self._descriptors: deque[int] = deque()
        self._frames: deque[Frame] = deque()  # that have come and are not answered
        self._is_over = False
        sock.setblocking(False)
        loop.watch(sock.fileno(), READ, self._ready)

    def __repr__(self) -> str:
        state = "over" if self._is_over else "open"
        return f"<Importer {state} {len(self._in)} bytes, {len(self._descriptors)} descriptors>"

    def break_off(self) -> None:
        """Take nothing more; what is not taken stays its exporter's."""
        if self._is_over:
            return
        self._is_over = True
        self._loop.unwatch(self._socket.fileno())
        self._loop.close_after_batch(self._socket)
        _close_all(self._descriptors)
        self._frames.clear()
        self._in.clear()
        self._done(self)

    def _ready(self, events: int) -> None:
        if events & WRITE:
            self._loop.rewatch(self._socket.fileno(), READ)
        for _ in range(READS):
            if not self._answer_all() or not self._read():
                return

    def _read(self) -> bool:
        """Whether there may be more."""
        try:
            data, descriptors, flags, _ = socket.recv_fds(self._socket, READ_MOST, ROOM)
        except BlockingIOError:
            return False
        except OSError:
            data, descriptors, flags = b"", [], 0
        self._descriptors.extend(descriptors)
        if not data or flags & _TRUNCATED:  # we are out of descriptors, and do not know whose are lost
            self.break_off()
            return False
        self._in += data
        try:
            self._frames.extend(frames(self._in))
        except ValueError:
            self.break_off()
        return self._answer_all()

    def _answer_all(self) -> bool:
        """Whether it may go on: the socket has taken all answers."""
        while self._frames and not self._is_over:
            some = list(islice(self._frames, TOGETHER))
            if len(self._descriptors) < sum([frame.descriptors for frame in some]):
                self.break_off()
            elif not self._answer(some):
                return False
        return not self._is_over

    def _answer(self, some: Sequence[Frame]) -> bool:
        """Whether they are done with. In one piece: between the looks and the answers, which are sent in one step, nothing
        else happens here."""
        taken: list[MovedSession | None] = []
        answers = []
        coming = 0
        for frame in some:
            session: MovedSession | None = None
            try:
                session = decode(frame)
                refusal = self._taker.refusal(session, self._is_foreign, coming)
            except ValueError as error:
                refusal = str(error)
            taken.append(None if refusal else session)
            coming += not refusal
            answers.append(encode_answer(TakenAnswer(frame.number, refusal)))
        try:
            self._socket.send(b"".join(answers), _SEND_FLAGS)  # so little the kernel takes as a whole, or not at all
        except BlockingIOError:
            self._loop.rewatch(self._socket.fileno(), WRITE)
            return False
        except OSError:
            self.break_off()
            return False
        for frame, session in zip(some, taken, strict=True):
            self._frames.popleft()
            descriptors = [self._descriptors.popleft() for _ in range(frame.descriptors)]
            if session is None:
                _close_all(descriptors)
            else:
                self._taker.take(session, descriptors, self._is_foreign)
        return True


def _close_all(descriptors: list[int] | deque[int]) -> None:
    for fd in descriptors:
        os.close(fd)
    descriptors.clear()
