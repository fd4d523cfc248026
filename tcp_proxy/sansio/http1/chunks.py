"""A chunked body: what of it may go on as it came, and where it ends. Pure; fed with bytes cut anywhere.

    SIZE ──a size line──> DATA ──that many bytes──> AFTER ──CRLF──> SIZE
      │ size 0
      v
    TRAILERS ──the empty line──> DONE

Nothing of a size line or of the trailers goes on before it is whole and was found right. Extensions are refused: nobody
needs them, and readers disagree about where they end. A chunk is read as it comes: its size is no promise to hold it.
"""

import re
from enum import IntEnum

from tcp_proxy.sansio.http1.fields import Refused, read_trailers

SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})\r\n")
SIZE_PART = re.compile(rb"[0-9A-Fa-f]{0,15}\r?")
MAX_SIZE_LINE = 17
TRAILERS_MOST = 8192  # bytes


class Step(IntEnum):
    SIZE = 0
    DATA = 1
    AFTER = 2
    TRAILERS = 3
    DONE = 4


SIZE, DATA, AFTER, TRAILERS, DONE = Step


class Chunks:
    """`feed` with what is there; what it did not take comes again, with more behind it."""

    __slots__ = ("_left", "_step", "bytes", "pieces", "trailers")

    def __init__(self, decode: bool = False) -> None:
        self._step = SIZE
        self._left = 0
        self.bytes = 0  # of the content
        self.trailers = 0  # field lines
        self.pieces: list[bytes] | None = [] if decode else None  # the content itself, for who cannot read chunks

    def __repr__(self) -> str:
        return f"<Chunks {self._step.name} {self._left} left, {self.bytes} bytes>"

    @property
    def is_done(self) -> bool:
        return self._step is DONE

    def feed(self, data: bytes, at: int = 0) -> int:
        """Where the part of `data` from `at` on ends that was found right. Raises Refused."""
        size = len(data)
        while at < size:
            step = self._step
            if step is DATA:
                taken = min(self._left, size - at)
                if self.pieces is not None:
                    self.pieces.append(data[at : at + taken])
                self._left -= taken
                self.bytes += taken
                at += taken
                if self._left:
                    return at
                self._step = AFTER
                continue
            after = self._control(data, at)
            if after == at or self._step is DONE:
                return after
            at = after
        return at

    def skip(self, count: int) -> None:
        """So many bytes of the chunk at hand have gone another way."""
        self._left -= count
        self.bytes += count
        if not self._left:
            self._step = AFTER

    @property
    def in_chunk(self) -> int:
        """Bytes of content that come next whatever they are."""
        return self._left if self._step is DATA else 0

    def _control(self, data: bytes, at: int) -> int:
        if self._step is SIZE:
            return self._size(data, at)
        return self._line_end(data, at) if self._step is AFTER else self._trailers(data, at)

    def _size(self, data: bytes, at: int) -> int:
        found = SIZE_LINE.match(data, at)
        if found is None:
            part = SIZE_PART.match(data, at)
            if part is None or part.end() != len(data):
                raise Refused(400, "a chunk size that is none")
            return at
        self._left = int(found[1], 16)
        self._step = DATA if self._left else TRAILERS
        return found.end()

    def _line_end(self, data: bytes, at: int) -> int:
        if data.startswith(b"\r\n", at):
            self._step = SIZE
            return at + 2
        if data[at:] != b"\r":
            raise Refused(400, "a chunk that is not as long as it says")
        return at

    def _trailers(self, data: bytes, at: int) -> int:
        if data.startswith(b"\r\n", at):
            self._step = DONE
            return at + 2
        end = data.find(b"\r\n\r\n", at)
        if (end if end >= 0 else len(data)) - at > TRAILERS_MOST:
            raise Refused(400, f"trailers of more than {TRAILERS_MOST} bytes")
        if end < 0:
            part = data[at:]
            if b"\n" in part.replace(b"\r\n", b"") or b"\0" in part:
                raise Refused(400, "a bare LF, or a NUL")
            return at
        self.trailers = read_trailers(data[at : end + 2]).count
        self._step = DONE
        return end + 4
