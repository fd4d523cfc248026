"""A chunked body: what of it may go on as it came, and where it ends. Pure; fed with bytes cut anywhere.

    SIZE ──a size line──> DATA ──that many bytes──> AFTER ──CRLF──> SIZE
      │ size 0
      v
    TRAILERS ──the empty line──> DONE

Nothing of a size line or of the trailers goes on before it is whole and was found right. Extensions are read by the
grammar of RFC 9112, 7.1.1, and do not go on: they are for one hop, and readers disagree about where odd ones end (`cuts`).
They may be EXTENSIONS_MOST bytes longer in all than the content so far. A chunk is read as it comes: its size is no
promise to hold it.
"""

import re
from collections.abc import Sequence
from enum import IntEnum
from typing import Final

from tcp_proxy.sansio.http1.fields import Refused, read_trailers

SIZE_LINE: Final = re.compile(rb"([0-9A-Fa-f]{1,15})\r\n")
_TOKEN: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
_QUOTED: Final = rb"\"(?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*+\""
_EXTENSIONS: Final = rb"(?:[ \t]*;[ \t]*%b(?:[ \t]*=[ \t]*(?:%b|%b))?)*" % (_TOKEN, _TOKEN, _QUOTED)
EXTENDED: Final = re.compile(rb"([0-9A-Fa-f]{1,15})%b\r\n" % _EXTENSIONS)
PADDED: Final = re.compile(rb"([0-9A-Fa-f]{1,15})%b[ \t]*\r\n" % _EXTENSIONS)  # old servers fill the line up with spaces
SIZE_PART: Final = re.compile(rb"(?:[0-9A-Fa-f]{1,15}(?:[ \t]*(?:;[\t -~\x80-\xff]*)?)?)?\r?")
SIZE_LINE_MOST: Final = 4096  # bytes of one, with its extensions
EXTENSIONS_MOST: Final = 16 << 10
TRAILERS_MOST: Final = 8192  # bytes


class Step(IntEnum):
    SIZE = 0
    DATA = 1
    AFTER = 2
    TRAILERS = 3
    DONE = 4


SIZE: Final[Step] = Step.SIZE
DATA: Final[Step] = Step.DATA
AFTER: Final[Step] = Step.AFTER
TRAILERS: Final[Step] = Step.TRAILERS
DONE: Final[Step] = Step.DONE


class Chunks:
    """`feed` with what is there; what it did not take comes again, with more behind it."""

    __slots__ = ("_extensions", "_left", "_long_line", "_step", "bytes", "cuts", "pieces", "trailers")

    def __init__(self, decode: bool = False, is_answer: bool = False) -> None:
        """`is_answer`: of a target, which may put spaces behind a size."""
        self._long_line = PADDED if is_answer else EXTENDED
        self._extensions = 0  # bytes of them
        self.cuts: list[tuple[int, int]] = []  # where in what was fed last something does not go on
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

    @property
    def place(self) -> tuple[int, ...]:
        """Where it stands between two feeds, for another one that goes on there (`go_to`)."""
        return int(self._step), self._left, self.bytes, self.trailers, self._extensions

    def go_to(self, place: Sequence[int]) -> None:
        """Raises ValueError for what is no place."""
        step, self._left, self.bytes, self.trailers, self._extensions = place
        self._step = Step(step)

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
        found = SIZE_LINE.match(data, at) or self._extended(data, at)
        if found is None:
            return at
        self._left = int(found[1], 16)
        self._step = DATA if self._left else TRAILERS
        return found.end()

    def _extended(self, data: bytes, at: int) -> re.Match[bytes] | None:
        """A size line with more than a size; None as long as it is not whole."""
        found = self._long_line.match(data, at, at + SIZE_LINE_MOST)
        if found is None:
            if len(data) - at >= SIZE_LINE_MOST:
                raise Refused(400, f"a chunk size line of more than {SIZE_LINE_MOST} bytes, or none")
            part = SIZE_PART.match(data, at)
            if part is None or part.end() != len(data):
                raise Refused(400, "a chunk size that is none")
            return None
        start, end = found.end(1), found.end() - 2
        self._extensions += end - start
        if self._extensions > self.bytes + EXTENSIONS_MOST:
            raise Refused(400, f"chunk extensions that are more than {EXTENSIONS_MOST} bytes longer than the content")
        self.cuts.append((start, end))
        return found

    def without_cuts(self, data: bytes, end: int) -> bytes:
        """What of the `data` that was fed last goes on, as far as `end`."""
        parts, at = [], 0
        for start, after in self.cuts:
            parts.append(data[at:start])
            at = after
        parts.append(data[at:end])
        self.cuts = []
        return b"".join(parts)

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
