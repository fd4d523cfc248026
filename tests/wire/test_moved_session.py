"""A session's frame says all of it, however the stream is cut and whether or not it tells what has its default; programs of
version 0.2.0 understand it, and are understood. What is no session of this version is refused."""

import json
import pathlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcp_proxy.sansio.address import Restored
from tcp_proxy.wire.moved_exchange import MovedBody, MovedExchange
from tcp_proxy.wire.moved_session import (
    EXCHANGE,
    HTTP,
    MOST,
    VERSION,
    Direction,
    MovedSession,
    TakenAnswer,
    answers,
    decode,
    encode,
    encode_answer,
    frames,
)

BYTES = st.binary(max_size=300)
COUNTS = st.integers(0, 2**62)
FLAG, TIME = st.booleans(), st.floats(allow_nan=False)
OLD_DIRECTIONS = st.builds(Direction, COUNTS, COUNTS, FLAG, FLAG, FLAG, FLAG, BYTES, ahead=st.just(b""))
DIRECTIONS = st.builds(Direction, COUNTS, COUNTS, FLAG, FLAG, FLAG, FLAG, BYTES, BYTES)
BODIES = st.none() | st.builds(
    MovedBody, COUNTS, st.lists(COUNTS, max_size=5).map(tuple), FLAG, FLAG, FLAG, FLAG, COUNTS, FLAG, FLAG, COUNTS,
    COUNTS, FLAG,
)  # fmt: skip
SPANS = st.sampled_from([(), ("0af7651916cd43dd", "b7ad6b7169203331", "", True, "traceparent: \xff\r\n", ["traceparent"])])
EXCHANGES = st.none() | st.builds(
    MovedExchange, BYTES, TIME, st.lists(COUNTS, max_size=3).map(tuple), COUNTS, TIME, FLAG, BYTES, SPANS, COUNTS, FLAG,
    FLAG,
    FLAG, FLAG, COUNTS, COUNTS, COUNTS,
    BODIES, BODIES,
)  # fmt: skip
ADDRESSES = st.sampled_from([
    ("127.0.0.1", 80),
    ("fe80::1", 80, 0, 2),
    Restored("192.0.2.1", 5, ("127.0.0.1", 80), ("10.0.0.1", 443), ((1, b"\x00\xff"), (0xE2, b"")), "a note"),
])  # fmt: skip
TEXTS = st.text(max_size=20)
COMMON = {
    "kind": st.just("tcp"), "id": TEXTS, "processes": st.lists(COUNTS, max_size=3).map(tuple), "app": TEXTS,
    "listener": TEXTS,
    "address": ADDRESSES, "client_family": COUNTS, "started": TIME, "started_at": TIME, "last": TIME, "target": TEXTS,
    "tried": st.lists(st.tuples(TEXTS, TEXTS), max_size=2).map(tuple), "connected_at": TIME, "stick": TEXTS,
    "half_closed": FLAG, "has_place": FLAG, "deadline": TIME,
}  # fmt: skip
SESSIONS = st.builds(MovedSession, **COMMON, up=DIRECTIONS, down=DIRECTIONS, exchange=EXCHANGES)
# What a program of version 0.2.0 has a name for.
OLD_SESSIONS = st.builds(MovedSession, **COMMON, up=OLD_DIRECTIONS, down=OLD_DIRECTIONS, exchange=st.none())


def in_pieces(stream, data):
    """The frames of a stream that comes in any pieces."""
    buffer, found = bytearray(), []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        buffer += stream[:size]
        stream = stream[size:]
        found += frames(buffer)
    assert not buffer
    return found


@given(st.lists(SESSIONS, max_size=3), st.data())
def test_it_round_trips_in_any_cut_of_the_stream(sessions, data):
    found = in_pieces(b"".join(encode(number, session) for number, session in enumerate(sessions)), data)
    assert [decode(frame) for frame in found] == sessions
    assert [frame.number for frame in found] == list(range(len(sessions)))
    assert {frame.descriptors for frame in found} <= {2}


DEFAULTS = MovedSession._field_defaults
PLAIN = sorted(set(DEFAULTS) - {"up", "down"})
FLAGS = ["ended", "done", "blocked", "failed"]


def retold(frame, names, flags):
    """The same frame, with these defaults told."""
    told = json.loads(frame.body[: frame.head])
    told = {name: DEFAULTS[name] for name in names} | told
    for direction in ("up", "down"):
        told[direction] = dict.fromkeys(flags, False) | told[direction]
    head = json.dumps(told).encode()
    body = head + frame.body[frame.head :]
    return struct.pack("<IIHBI", 11 + len(body), frame.number, frame.version, frame.descriptors, len(head)) + body


@given(
    st.builds(lambda session, names: session._replace(**{name: DEFAULTS[name] for name in names}), SESSIONS,
              st.sets(st.sampled_from(sorted(DEFAULTS)))),
    st.sets(st.sampled_from(PLAIN)), st.sets(st.sampled_from(FLAGS)), st.data(),
)  # fmt: skip
def test_what_a_head_does_not_say_has_its_default(session, names, flags, data):
    (frame,) = frames(bytearray(encode(7, session)))
    told = json.loads(frame.body[: frame.head])
    assert not [name for name in told if name in PLAIN and name != "tried" and told[name] == DEFAULTS[name]]
    (found,) = in_pieces(retold(frame, names, flags), data)
    assert decode(found) == decode(frame) == session


def test_a_head_without_directions_has_none_under_way():
    frame = frame_of()
    told = json.loads(frame.body[: frame.head])
    del told["up"], told["down"], told["tried"]
    body = json.dumps(told).encode()
    assert decode(frame_of(body=body, head=len(body))) == SESSION


@given(OLD_SESSIONS)
def test_a_program_of_version_0_2_0_understands_it(session):
    (frame,) = frames(bytearray(encode(1, session)))
    fields = json.loads(frame.body[: frame.head])
    unsent = frame.body[frame.head :]
    # As that version reads it, word for word, but for addresses:
    middle = fields["up"].pop("unsent")
    fields["up"] = Direction(**fields["up"], unsent=unsent[:middle])
    rest = fields["down"].pop("unsent")
    fields["down"] = Direction(**fields["down"], unsent=unsent[middle:])
    fields["address"] = session.address if fields["address"] else None
    fields["tried"] = tuple((target, error) for target, error in fields["tried"])
    assert MovedSession(**fields | {"processes": tuple(fields["processes"])}) == session
    assert len(unsent) == middle + rest


def test_what_version_0_2_0_told_is_understood():
    recorded = pathlib.Path(__file__).with_name("recorded") / "0.2.0.frames"
    first, second = map(decode, frames(bytearray(recorded.read_bytes())))
    assert first == MovedSession(
        "tcp", "0.1-7", (4, 5), "web", "127.0.0.1:80",
        Restored("192.0.2.1", 5, ("127.0.0.1", 80), ("10.0.0.1", 443), ((1, b"\x00\xff"),), "a note"), 2, 1.5, 2.5, 1.75,
        "t0", 2, (("t1", "refused"),), 1.625, half_closed=True, first_end="client",
        up=Direction(9, 4, ended=True, unsent=b"hello"), down=Direction(3, 3), listener_slot=600, target_slot=200,
        has_place=True,
    )  # fmt: skip
    assert second == MovedSession(
        "http", "0.1-8", (4,), "api", "127.0.0.1:81", ("127.0.0.1", 2), 2, 1.5, 2.5, 1.75, requests=3, bytes_up=4,
        bytes_down=5, last_target="t1", deadline=9.5, listener_slot=700,
    )  # fmt: skip


def test_a_request_under_way_is_told_as_it_was_recorded():
    """Whoever adds a field leaves this record as it is; whoever changes one breaks programs that tell it so."""
    recorded = pathlib.Path(__file__).with_name("recorded") / "0.2.0-exchange.frames"
    (frame,) = frames(bytearray(recorded.read_bytes()))
    span = "0af7", "b7ad", "", True, "traceparent: 00\r\n", ["traceparent"]
    exchange = MovedExchange(
        b"PUT /\xff HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n", 1.6, (4, 5), 200, 1.7, True, b"websocket", span, 1,
        True, True, True, True, 8192, 104, 7, MovedBody(left=3, moved=6, most=10, copies=True),
        MovedBody(chunks=(0, 0, 5, 0, 2), decodes=True, moved=9, was_full=True),
    )  # fmt: skip
    session = MovedSession(
        "exchange", "0.1-9", (4, 5), "api", "127.0.0.1:81", ("127.0.0.1", 2), 2, 1.5, 2.5, 1.75, "t1", 2, requests=3,
        up=Direction(blocked=True, unsent=b"up", ahead=b"GET"), down=Direction(unsent=b"down", ahead=b"5\r"),
        listener_slot=700, target_slot=200, exchange=exchange,
    )  # fmt: skip
    assert decode(frame) == session
    assert encode(1, session) == recorded.read_bytes()


@given(st.lists(st.builds(TakenAnswer, st.integers(0, 2**32 - 1), st.text("abcäö", max_size=20)), max_size=4), st.data())
def test_answers_round_trip_in_any_cut(told, data):
    stream = b"".join(map(encode_answer, told))
    buffer, found = bytearray(), []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        buffer += stream[:size]
        stream = stream[size:]
        found += answers(buffer)
    assert found == told


SESSION = MovedSession("tcp", "a.1-7", (4,), "web", "127.0.0.1:1", ("127.0.0.1", 2), 2, 1.0, 2.0, 1.5, "t0", 2)


def frame_of(session=SESSION, **changes):
    (frame,) = frames(bytearray(encode(1, session)))
    return frame._replace(**changes)


def test_another_version_is_refused_and_the_stream_stays_in_step():
    unknown = bytearray(encode(8, SESSION))
    struct.pack_into("<H", unknown, 8, VERSION + 1)
    first, second = frames(unknown + encode(9, SESSION))
    with pytest.raises(ValueError, match=f"version {VERSION + 1}.*knows {VERSION}"):
        decode(first)
    assert (first.number, first.descriptors) == (8, 2)
    assert decode(second) == SESSION


@pytest.mark.parametrize("change", [{"colour": 1}, {"up": None}, {"address": 7}, {"up": {"moved": 1}}, {"tried": [1]}])
def test_what_is_no_session_is_refused(change):
    frame = frame_of()
    body = json.dumps(json.loads(frame.body[: frame.head]) | change).encode()
    with pytest.raises(ValueError, match="no session that this program knows"):
        decode(frame_of(body=body, head=len(body)))


def test_a_frame_whose_parts_do_not_fit_is_refused():
    for frame in (frame_of(body=frame_of().body + b"x"), frame_of(descriptors=1)):
        with pytest.raises(ValueError, match="out of step"):
            decode(frame)


@pytest.mark.parametrize("length", [0, 4, MOST + 1])
def test_a_stream_that_is_none_is_an_error(length):
    stream = bytearray(encode(1, SESSION))
    struct.pack_into("<I", stream, 0, length)
    with pytest.raises(ValueError, match="not a session's frame"):
        list(frames(stream))


def test_a_client_of_mode_http_comes_alone_and_with_its_target_when_a_request_is_under_way():
    assert SESSION._replace(kind=HTTP).descriptors == 1
    assert SESSION._replace(kind=EXCHANGE).descriptors == 2
