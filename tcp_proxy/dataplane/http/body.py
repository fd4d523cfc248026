"""A body on its way: read from one connection as far as the message goes, written to the other. Never held whole.

Owned by the loop's thread. One Body for each direction of an exchange that is not over in one read and one write. What
comes behind the body is not touched: it is the next message's (`rest`).

    FLOWING ──writer blocked──> WAITING ──flushed──> FLOWING
       │ the message's end, or the source's where that is the end
       v
     ended ── everything written ──> done: exchange.body_done, once

A long body of known length goes by os.splice, without a byte in this program; but not past urgent data, at which a splice
says "empty" though there is more (test_urgent_data_in_a_spliced_body): such a connection is read from then on.
"""

import select
from socket import MSG_DONTWAIT, SocketType
from typing import Any, Final, Protocol

from tcp_proxy.dataplane.http.socket_writer import SocketWriter
from tcp_proxy.dataplane.relay.pump import CHUNK
from tcp_proxy.dataplane.relay.splice import HAS_SPLICE, PipePool, drain, take_in
from tcp_proxy.runtime.loop import Loop
from tcp_proxy.runtime.stream_socket import StreamSocket
from tcp_proxy.sansio.http1.chunks import Chunks
from tcp_proxy.sansio.http1.fields import CHUNKED, UNSAID, Refused
from tcp_proxy.wire.moved_exchange import MovedBody

SPLICE_FROM: Final = 256 << 10  # bytes that are still to come: below it copying is cheaper
TURNS: Final = 8  # reads, or splices, in one turn; then the others


class BodyOwner(Protocol):
    @property
    def pipes(self) -> PipePool: ...

    def body_done(self, body: "Body") -> Any: ...
    def body_broken(self, body: "Body") -> Any: ...  # the source has ended, or failed, before the message has
    def body_refused(self, body: "Body", error: Refused) -> Any: ...
    def writer_failed(self, body: "Body", code: int) -> Any: ...


class Body:
    """`length` as in a head: a number, CHUNKED, or UNTIL_CLOSE. With `decode` the chunks are taken off; `is_answer`: it
    is a target's."""

    __slots__ = (
        "_chunks",
        "_ends_with_source",
        "_loop",
        "_queued",
        "_splices",
        "code",
        "done",
        "ended",
        "left",
        "most",
        "moved",
        "owner",
        "rest",
        "source",
        "source_ended",
        "was_full",
        "writer",
    )  # fmt: skip

    def __init__(
        self,
        loop: Loop,
        owner: BodyOwner,
        source: StreamSocket,
        writer: SocketWriter,
        length: int,
        decode: bool = False,
        is_answer: bool = False,
    ) -> None:
        self._loop = loop
        self.owner = owner
        self.source = source
        self.writer = writer
        self.left = max(0, length)
        self._chunks = Chunks(decode, is_answer) if length == CHUNKED else None
        self._ends_with_source = length < 0 and self._chunks is None
        self._queued = False
        self._splices = HAS_SPLICE
        self.ended = length == 0
        self.done = False
        self.moved = 0  # bytes read of it, framing included
        self.rest = b""  # read, but not of it, or not judged yet
        self.source_ended = False
        self.was_full = False  # there may have been more behind what was read last: it got all that it could take, or an end
        self.code = 0  # errno of the source
        self.most = 0  # bytes that it may be long if it comes in chunks; 0: any number

    def __repr__(self) -> str:
        state = "done" if self.done else "ended" if self.ended else "waiting" if self.writer.blocked else "flowing"
        return f"<Body {state} moved={self.moved} left={self.left}>"

    @classmethod
    def carried_on(
        cls,
        loop: Loop,
        owner: BodyOwner,
        source: StreamSocket,
        writer: SocketWriter,
        told: MovedBody,
        rest: bytes,
        is_answer: bool,
    ) -> "Body":
        """One that another process, or another Body, has had so far."""
        length = CHUNKED if told.chunks else UNSAID if told.until_close else told.left
        body = cls(loop, owner, source, writer, length, told.decodes, is_answer)
        if body._chunks is not None:
            body._chunks.go_to(told.chunks)
        body.ended, body.done, body.moved, body.rest = told.ended, told.done, told.moved, rest
        body.source_ended, body.was_full, body.code, body.most = told.source_ended, told.was_full, told.code, told.most
        body._splices = body._splices and not told.copies
        return body

    def told(self) -> MovedBody:
        """All of it between two reads, but for `rest`."""
        chunks = self._chunks
        return MovedBody(
            self.left, chunks.place if chunks is not None else (), chunks is not None and chunks.pieces is not None,
            self._ends_with_source, self.ended, self.done, self.moved, self.source_ended, self.was_full, self.code,
            self.most, not self._splices,
        )  # fmt: skip

    @property
    def has_trailers(self) -> bool:
        return self._chunks is not None and self._chunks.trailers > 0

    @property
    def delivered(self) -> int:
        return max(0, self.moved - self.writer.waiting())

    def take(self, data: bytes) -> bytes:
        """What of `data`, which comes next, is to be written now; the remainder becomes `rest`. Raises Refused."""
        chunks = self._chunks
        if chunks is not None:
            if self.rest:
                data = self.rest + data
            end = chunks.feed(data)
            if self.most and chunks.bytes + chunks.in_chunk > self.most:
                raise Refused(413, f"a body of more than {self.most} bytes")
            self.rest = data[end:]
            if chunks.cuts:
                data = chunks.without_cuts(data, end)
                end = len(data)
            self.moved += end
            self.ended = chunks.is_done
            if chunks.pieces is None:
                return data[:end] if self.rest else data
            out = b"".join(chunks.pieces)
            chunks.pieces.clear()
            return out
        if self._ends_with_source:
            self.moved += len(data)
            return data
        if len(data) > self.left:
            data, self.rest = data[: self.left], data[self.left :]
        self.left -= len(data)
        self.moved += len(data)
        self.ended = not self.left
        return data

    def go_on(self, _events: int = 0) -> None:
        """Read and write until the source is empty, the writer full, the body over, or the turn."""
        self._queued = False
        for _ in range(TURNS):
            if self.writer.blocked or self.ended:
                break
            if not (self._splice() if self.left >= SPLICE_FROM and self._splices else self._copy()):
                return
        else:
            self._go_on_later()
            return
        if self.ended and not self.writer.blocked:
            self._finish()

    def flushed(self) -> None:
        """The writer has room again."""
        if self.done:
            return
        if self.ended:
            self._finish()
        elif not self._queued:
            self.go_on()

    def copy_on(self) -> None:
        """Urgent data has come, or will come before long: no more splicing."""
        self._splices = False

    def stop(self) -> None:
        """Nothing more is read or written."""
        self.ended = self.done = True
        pipe = self.writer.pipe
        if pipe is not None and not pipe.count:  # what is in it is still on its way, until the writer's owner gives up
            self.writer.give_back(self.owner.pipes)

    def _finish(self) -> None:
        if not self.done:
            self.done = True
            self.writer.give_back(self.owner.pipes)
            self.owner.body_done(self)

    def _copy(self) -> bool:
        """One read and one write; whether there may be more to do."""
        try:
            data = self.source.recv(CHUNK, MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError as error:
            self.code = error.errno or 0
            self._source_over()
            return False
        if not data:
            self._source_over()
            return False
        source = self.source
        self.was_full = len(data) == CHUNK or (type(source) is not SocketType and getattr(source, "has_end", False))
        try:
            out = self.take(data)
        except Refused as refused:
            self.owner.body_refused(self, refused)
            return False
        return not out or self._write(out)

    def _write(self, out: bytes) -> bool:
        try:
            self.writer.write(out)
        except OSError as error:
            self.owner.writer_failed(self, error.errno or 0)
            return False
        return True

    def _source_over(self) -> None:
        self.source_ended = True
        if self._ends_with_source and not self.code:
            self.ended = True
            if not self.writer.blocked:
                self._finish()
        else:
            self.owner.body_broken(self)

    def _splice(self) -> bool:
        writer = self.writer
        if writer.pipe is None:
            is_plain = type(self.source) is type(writer.sock) is SocketType  # neither TLS nor slowed down
            must_copy = not is_plain or _is_urgent(self.source)
            writer.pipe = None if must_copy else self.owner.pipes.take()
            if writer.pipe is None:
                self._splices = False  # these, or no descriptor or memory for one: copy
                return True
            self.source.setblocking(False)
            writer.sock.setblocking(False)
        pipe = writer.pipe
        try:
            size = take_in(pipe, self.source.fileno(), self.left)
        except BlockingIOError:
            return False
        except OSError as error:
            self.code = error.errno or 0
            self._source_over()
            return False
        if not size:  # the end, or urgent data: recv knows
            self._splices = False
            return True
        self.left -= size
        self.moved += size
        self.was_full = True  # it stops where the body does
        self.ended = not self.left
        try:
            if not drain(pipe, writer.sock.fileno()):
                writer.wait()
        except OSError as error:
            self.owner.writer_failed(self, error.errno or 0)
            return False
        return True

    def _go_on_later(self) -> None:
        if not self._queued:
            self._queued = True
            self._loop.call_again(self._resume)

    def _resume(self, _events: int) -> None:
        if not self.done:
            self.go_on()


def _is_urgent(sock: StreamSocket) -> bool:
    """Whether urgent data waits there already; what comes later is an event."""
    poll = select.poll()
    poll.register(sock.fileno(), select.POLLPRI)
    return bool(poll.poll(0))
