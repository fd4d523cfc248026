"""What there is to say of a session, or of a request of mode http, that has ended; as the access log and `why` have it."""

from typing import Any, NamedTuple

SessionRecord = tuple[object, ...]  # the fields of Record, or of RequestRecord, in its order, as a plain tuple


Trace = tuple[()] | tuple[str, str, str]  # of what is traced: trace, span and the span above, in hexadecimal ("": none)


class Record(NamedTuple):
    """One ended session (docs/rules.md, R15). Seconds and bytes; -1.0 seconds to connect when it never did."""

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
    peer: str = ""  # whom the connection was with, where a PROXY header gave the client
    error: str = ""  # what was wrong, in words
    tls: tuple[Any, ...] = ()  # with the client (dataplane.tls_told)
    notes: str = ""  # what else the PROXY header has said
    processes: tuple[int, ...] = ()  # that it has lived in, in order, where there were several
    trace: Trace = ()


class Origin(NamedTuple):
    """Of a session that has moved here: its id, which it keeps, and the processes that it has lived in before."""

    id: str
    processes: tuple[int, ...]


REQUEST = "request"  # the first field of a request's record, where a session's has an id


class RequestRecord(NamedTuple):
    """One request of an app in mode http, answered or given up."""

    kind: str  # REQUEST
    id: str  # of the session, and the request's number in it
    app: str
    listener: str
    client: str
    target: str  # the name, "" when none was reached
    line: bytes  # the first line as it came, without its end; "-" when there was none
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
    error: str = ""  # what was wrong, in words, where the answer is not the target's
    peer: str = ""  # as in Record
    tls: tuple[Any, ...] = ()
    notes: str = ""
    trace: Trace = ()
    tried: tuple[tuple[str, str], ...] = ()  # of what is traced, as in Record
    processes: tuple[int, ...] = ()  # that answered it, in order, where there were several
