"""A live session as it goes from one process to another: a frozen value, and its frame on the wire. Pure.

The way is a socketpair of two workers, of one supervisor or of two whose programs are of different versions: so the frame
has a version of its own, and says everything; what only workers of one supervisor share is marked so below. Both ends are
on one machine, whose monotonic clock they have in common.

    frame:  LENGTH u32 · NUMBER u32 · VERSION u16 · DESCRIPTORS u8 · HEAD u32 · HEAD bytes of JSON · the bytes
    answer: LENGTH u32 · NUMBER u32 · TAKEN u8 · why not, in UTF-8

little-endian; a LENGTH counts what follows it. The bytes are those of the directions: unsent up, unsent down, ahead up,
ahead down. The descriptors come with the first byte of their frame (SCM_RIGHTS): the client's socket, then the target's; of
a client between two requests its alone. NUMBER is the exporter's, for the answer. The fixed part stays as it is in every
version: so a frame of an unknown one is refused, and the stream stays in step.

What a head does not say has its default (the fields below): a field that is added needs no new version, and one that has its
default is left out, but for those that programs of version 0.2.0 look for: `up` and `down` with `unsent`, and `tried`.
"""

import itertools
import json
import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

from tcp_proxy.sansio.address import Restored
from tcp_proxy.wire import moved_exchange
from tcp_proxy.wire.moved_exchange import MovedExchange

VERSION = 1
TCP, HTTP, EXCHANGE = "tcp", "http", "exchange"

_FRAME = struct.Struct("<IIHBI")
_ANSWER = struct.Struct("<IIB")
_LENGTH = 4
MOST = 64 << 20  # bytes of a frame: more is a stream that is out of step


class Direction(NamedTuple):
    """What is under way from one socket to the other."""

    moved: int = 0  # bytes read so far, those of `unsent` among them
    counted: int = 0  # of these, those that stand in the counters of the processes before
    ended: bool = False  # its source has no more to say
    done: bool = False  # everything is written; if `ended` too, the end was passed on: else it is owed
    blocked: bool = False  # its destination is full
    failed: bool = False  # its source has reported an error, and will not do so again
    unsent: bytes = b""  # read and not written, what was in a pipe too
    ahead: bytes = b""  # of mode http: read of its source, and not looked at or not known to be whole yet


class MovedSession(NamedTuple):
    """Times are of the machine's monotonic clock, unless said otherwise. A tuple, and not a dataclass: two are made for each
    session that moves, in half the time."""

    kind: str  # TCP; of mode http HTTP: a client between two requests; EXCHANGE: one with a request under way
    id: str  # that it was given where it began; it keeps it
    processes: tuple[int, ...]  # that it has lived in, in order; the last one gives it away
    app: str
    listener: str  # its address, as the configuration has it
    address: Any  # the client's sockaddr, or a Restored one
    client_family: int
    started: float
    started_at: float  # the wall clock's
    last: float  # when a byte moved
    # -- kinds TCP and EXCHANGE
    target: str = ""
    target_family: int = 0
    tried: tuple[tuple[str, str], ...] = ()  # as in records.Record
    connected_at: float = -1.0
    half_closed: bool = False  # one side has ended: the shorter time-out runs
    first_end: str = ""  # sansio.reasons.Side
    resets_on_close: bool = False  # the target's socket has SO_LINGER 0
    epoch: int = 0  # of the primary that it was connected to, of an app with `on_demotion` "close"; else 0
    stick: str = ""  # the key that it belongs to
    up: Direction = Direction()
    down: Direction = Direction()
    # -- kinds HTTP and EXCHANGE
    requests: int = 0  # so far
    bytes_up: int = 0  # of their bodies
    bytes_down: int = 0
    last_target: str = ""
    deadline: float = 0.0  # for the next request
    exchange: MovedExchange | None = None
    # -- what only workers of one supervisor have in common
    listener_slot: int = 0  # of the counters
    target_slot: int = 0
    target_tokens: int = -1  # of which semaphore it has a token of its target, -1: of none
    app_tokens: int = -1  # the same of its app
    has_place: bool = False  # it is counted by limits.sessions
    is_counted: bool = False  # the same by limits.sessions_per_client

    @property
    def descriptors(self) -> int:
        return 1 if self.kind == HTTP else 2


class Frame(NamedTuple):
    number: int
    version: int
    descriptors: int
    body: bytes  # behind the fixed part
    head: int  # of these, bytes of JSON


class TakenAnswer(NamedTuple):
    """What the importer says of a frame. `refusal`: why it does not take the session; "": it is the owner now."""

    number: int
    refusal: str = ""


def encode(number: int, session: MovedSession) -> bytes:
    """A whole frame."""
    told = zip(MovedSession._fields, session, _DEFAULTS, strict=True)
    fields = {name: value for name, value, default in told if value != default}
    up, down, address = session.up, session.down, session.address
    fields["up"], fields["down"] = _direction(up), _direction(down)
    fields["tried"], fields["address"] = session.tried, address
    if session.exchange is not None:
        fields["exchange"] = moved_exchange.told(session.exchange)
    if isinstance(address, Restored):
        tlvs = [(kind, value.decode("latin-1")) for kind, value in address.tlvs]
        fields["address"] = address._replace(tlvs=tlvs)._asdict()  # type: ignore[arg-type]
    head = _encode(fields).encode()
    data = up.unsent, down.unsent, up.ahead, down.ahead
    length = _FRAME.size - _LENGTH + len(head) + sum(map(len, data))
    fixed = _FRAME.pack(length, number, VERSION, session.descriptors, len(head))
    return b"".join((fixed, head, *data))


def frames(buffer: bytearray) -> Iterator[Frame]:
    """Those that are there as a whole; they leave the buffer, one as it is asked for. Raises ValueError for what is none."""
    while len(buffer) >= _FRAME.size:
        length, number, version, descriptors, head = _FRAME.unpack_from(buffer)
        if not _FRAME.size - _LENGTH + head <= length <= MOST:
            raise ValueError(f"not a session's frame: {bytes(buffer[:20])!r}")
        end = _LENGTH + length
        if len(buffer) < end:
            return
        frame = Frame(number, version, descriptors, bytes(memoryview(buffer)[_FRAME.size : end]), head)
        del buffer[:end]
        yield frame


def decode(frame: Frame) -> MovedSession:
    """Raises ValueError for another version, and for anything that is no session."""
    if frame.version != VERSION:
        raise ValueError(f"it is told in version {frame.version}, and this program knows {VERSION}")
    try:
        fields = _decode(frame.body[: frame.head].decode())
        up, down = fields.pop("up", {"unsent": 0}), fields.pop("down", {"unsent": 0})
        sizes = [up.pop("unsent"), down.pop("unsent"), up.pop("ahead", 0), down.pop("ahead", 0)]
        ends = list(itertools.accumulate(sizes, initial=frame.head))
        unsent_up, unsent_down, ahead_up, ahead_down = (frame.body[a:b] for a, b in itertools.pairwise(ends))
        exchange = fields.pop("exchange", None)
        session = MovedSession(
            up=Direction(**up, unsent=unsent_up, ahead=ahead_up),
            down=Direction(**down, unsent=unsent_down, ahead=ahead_down),
            address=_address(fields.pop("address")),
            processes=tuple(fields.pop("processes")),
            exchange=moved_exchange.understood(exchange) if exchange is not None else None,
            tried=tuple([(target, error) for target, error in fields.pop("tried", ())]),
            **fields,
        )
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise ValueError(f"it is no session that this program knows: {error}") from None
    if min(sizes) < 0 or len(frame.body) != ends[-1] or session.descriptors != frame.descriptors:
        raise ValueError("its frame is out of step")
    return session


def encode_answer(answer: TakenAnswer) -> bytes:
    why = answer.refusal.encode()[:200]
    return _ANSWER.pack(_ANSWER.size - _LENGTH + len(why), answer.number, not answer.refusal) + why


def answers(buffer: bytearray) -> Iterator[TakenAnswer]:
    """Those that are there as a whole; they leave the buffer."""
    while len(buffer) >= _ANSWER.size:
        length, number, is_taken = _ANSWER.unpack_from(buffer)
        end = _LENGTH + length
        if len(buffer) < end:
            return
        why = bytes(buffer[_ANSWER.size : end]).decode(errors="replace")
        del buffer[:end]
        yield TakenAnswer(number, "" if is_taken else why or "no reason was given")


_encode = json.JSONEncoder(separators=(",", ":")).encode
_decode = json.JSONDecoder().decode
_DEFAULTS = tuple(MovedSession._field_defaults.get(name, ...) for name in MovedSession._fields)


def _direction(direction: Direction) -> dict[str, Any]:
    """`unsent` and `ahead` are lengths: the bytes come behind the head."""
    moved, counted, ended, done, blocked, failed, unsent, ahead = direction
    told = {"moved": moved, "counted": counted, "unsent": len(unsent)}
    if ended or done or blocked or failed:
        told |= {"ended": ended, "done": done, "blocked": blocked, "failed": failed}
    if ahead:
        told["ahead"] = len(ahead)
    return told


def _address(told: Any) -> Any:
    if isinstance(told, dict):
        tlvs = tuple((kind, value.encode("latin-1")) for kind, value in told.pop("tlvs"))
        host, port = told.pop("destination")
        return Restored(**told | {"peer": tuple(told["peer"])}, destination=(host, port), tlvs=tlvs)
    return tuple(told)
