"""Session records on the wire: what a worker writes to its record pipe and the access log reads there.

A frame is a 4-byte little-endian length and that many bytes of marshal: a list of records. Both ends run the same
Python and a worker is our own child, so marshal is safe, and the cheapest there is. A worker that is killed leaves a
partial frame, which is dropped.
"""

import marshal
from typing import NamedTuple

MAX_FRAME = 256 << 20  # bytes; a longer one means that the stream is out of step

SessionRecord = tuple[object, ...]  # the fields of Record, in its order, as a plain tuple


class Record(NamedTuple):
    """One ended session (DESIGN section 6). Seconds and bytes; -1.0 seconds to connect when it never did."""

    id: str
    app: str
    listener: str
    client: str
    target: str  # the name, "" when none was reached
    tried: tuple[tuple[str, str], ...]  # (target, why it failed), in order
    connect_seconds: float
    seconds: float
    bytes_up: int  # from the client to the target
    bytes_down: int
    ended_by: str
    reason: str
    errno: str  # ECONNRESET, or ""
    ended_at: float  # the wall clock's


REQUEST = "request"  # the first field of a request's record, where a session's has an id


class RequestRecord(NamedTuple):
    """One request of an app in mode http, answered or given up."""

    kind: str  # REQUEST
    id: str  # of the session, and the request's number in it
    app: str
    listener: str
    client: str
    target: str  # the name, "" when none was reached
    line: str  # the first line as it came, "-" when there was none
    host: bytes
    status: int  # what the client was told; 0: nothing
    bytes_up: int  # of the bodies
    bytes_down: int
    answer_seconds: float  # to the head of the answer; -1.0: none came
    seconds: float  # to its last byte
    referer: bytes
    agent: bytes
    reason: str
    ended_at: float  # the wall clock's


def frame(records: list[SessionRecord]) -> bytes:
    body = marshal.dumps(records)
    return len(body).to_bytes(4, "little") + body


class FrameReader:
    """Fed with bytes as they come, cut anywhere; gives the records of the frames that are whole."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def __repr__(self) -> str:
        return f"<FrameReader {len(self._buffer)} bytes of an unfinished frame>"

    def feed(self, data: bytes) -> list[SessionRecord]:
        """Raises ValueError when this is no stream of frames; nothing can be read from it after that."""
        buffer = self._buffer
        records: list[SessionRecord] = []
        buffer += data
        start = 0
        while len(buffer) - start >= 4:
            end = start + 4 + int.from_bytes(buffer[start : start + 4], "little")
            if end - start > MAX_FRAME:
                raise ValueError(f"a frame of {end - start} bytes")
            if len(buffer) < end:
                break
            records += _batch(bytes(buffer[start + 4 : end]))
            start = end
        del buffer[:start]
        return records


def _batch(body: bytes) -> list[SessionRecord]:
    try:
        batch = marshal.loads(body)
    except (EOFError, TypeError) as error:
        raise ValueError(f"no batch of records: {error}") from error
    if not isinstance(batch, list):
        raise ValueError(f"no batch of records but a {type(batch).__name__}")
    return batch
