"""Every message survives the way over the wire; whatever is no message of this version is refused with a ValueError."""

import dataclasses
import functools
import json
import socket
import types
import typing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcp_proxy.config.log_model import AccessLogs
from tcp_proxy.config.model import Timeouts
from tcp_proxy.wire import inquiries, messages, moves, views
from tcp_proxy.wire.messages import KINDS, Ping, Snapshot, TargetChanged, Unlisten, decode, encode
from tcp_proxy.wire.views import AppView, TargetView

INTEGERS = st.integers(-(2**63), 2**63 - 1)
NUMBERS = st.floats(allow_nan=False)
TEXTS = st.text(st.characters())  # lone surrogates too: a path that is not UTF-8
ENDPOINTS = st.one_of(
    st.tuples(st.just(int(socket.AF_INET)), st.tuples(st.just("127.0.0.1"), st.integers(0, 65535))),
    st.tuples(st.just(int(socket.AF_INET6)), st.tuples(st.just("::1"), st.integers(0, 65535), st.just(0), st.just(3))),
    st.tuples(st.just(int(socket.AF_UNIX)), TEXTS),
)
PLAIN = {int: INTEGERS, float: NUMBERS, str: TEXTS, bool: st.booleans()}


@functools.cache
def values(kind):
    """Any value of an annotated type, as the messages use them."""
    if kind is views.Endpoint:
        return ENDPOINTS
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        return st.builds(kind, **{field.name: values(hints[field.name]) for field in dataclasses.fields(kind)})
    if isinstance(kind, types.UnionType):
        return st.none() | values(typing.get_args(kind)[0])
    if typing.get_origin(kind) is tuple:
        inner = typing.get_args(kind)
        if inner[-1] is not Ellipsis:
            return st.tuples(*map(values, inner))
        return st.lists(values(inner[0]), max_size=2).map(tuple)
    return PLAIN[kind]


def body(message):
    return encode(message)[4:]


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
@given(data=st.data())
def test_every_message_round_trips(kind, data):
    message = data.draw(values(kind))
    frame = encode(message)
    assert int.from_bytes(frame[:4], "little") == len(frame) - 4
    found = decode(frame[4:])
    assert found == message
    assert type(found) is kind
    assert hash(found) == hash(message), "no list is left where there was a tuple"


def test_the_language_is_every_message_there_is():
    """A new message that is not in KINDS could be sent and never be understood."""
    rooms = (messages, inquiries, moves)
    here = {name for room in rooms for name, value in vars(room).items() if dataclasses.is_dataclass(value)}
    parts = {"TargetView", "AppView", "AppPart", "Timeouts", "Http", "Sticky", "Tried", "SessionView", "EndedView"}
    parts |= {"RequestView"}
    parts |= {"Tls", "TlsView", "TargetTls", "SniRoute", "AcceptProxy", "SendProxy", "AccessView", "SessionLimits"}
    parts |= {"Outlier", "AccessLogs", "FaultView"}
    assert here - parts == set(KINDS)
    assert isinstance(messages.Message, types.UnionType)


@pytest.mark.parametrize(
    ("family", "sockaddr"),
    [
        (socket.AF_INET, ("127.0.0.1", 80)),
        (socket.AF_INET6, ("fe80::1", 80, 0, 2)),
        (socket.AF_UNIX, "/run/x.sock"),
        (socket.AF_UNIX, "\0abstract"),
    ],
)
def test_a_sockaddr_stays_what_connect_takes(family, sockaddr):
    endpoints = ((int(family), sockaddr),)
    assert decode(body(TargetChanged("app", "target", "up", endpoints))).endpoints == endpoints
    view = AppView("app", 8, "round_robin", 3, Timeouts(), (TargetView("t", 8, 1, False, False, "up", endpoints),))
    snapshot = Snapshot(0, 1, "x", 4, 14, 1, AccessLogs("a.log", "text", (("app", "", "json"),)), "info", 30, (view,), 1)
    found = decode(body(snapshot))
    assert found.apps[0].targets[0].endpoints == endpoints
    assert type(found.apps[0].targets[0].endpoints[0][1]) is type(sockaddr)
    assert found.apps[0].timeouts == Timeouts()


def test_messages_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Ping(1).number = 2


@pytest.mark.parametrize("version", [messages.VERSION + 1, 0, None, "1", [1]])
def test_a_foreign_version_is_refused(version):
    text = json.dumps({**json.loads(body(Ping(1))), "v": version}).encode()
    with pytest.raises(ValueError, match=f"not a message of version {messages.VERSION}"):
        decode(text)


def test_no_version_at_all_is_refused():
    with pytest.raises(ValueError, match="not a message"):
        decode(b'{"is":"Ping","number":1}')


@pytest.mark.parametrize("name", ["Pingg", "ping", "", "TargetView", "Timeouts", None, 1, ["Ping"], {"Ping": 1}])
def test_an_unknown_type_is_refused(name):
    with pytest.raises(ValueError, match="not a message"):
        decode(json.dumps({"v": messages.VERSION, "is": name, "number": 1}).encode())


@pytest.mark.parametrize(
    "fields",
    [
        "",
        ',"number":1,"more":2',
        ',"nummer":1',
    ],
)
def test_a_message_with_other_fields_than_its_type_is_refused(fields):
    with pytest.raises(ValueError, match="not a message"):
        decode(f'{{"v":{messages.VERSION},"is":"Ping"{fields}}}'.encode())


@pytest.mark.parametrize("ids", ["1", "null", '{"a":1}'])
def test_a_message_with_something_else_where_a_tuple_belongs_is_refused(ids):
    with pytest.raises(ValueError, match="not a message"):
        decode(f'{{"v":{messages.VERSION},"is":"Unlisten","ids":{ids},"drain":1.0}}'.encode())


@pytest.mark.parametrize("text", [b"", b"{", b"null", b"1", b"[]", b'"Ping"', b"\xff\xfe", b"[" * 100_000, b"\0" * 8])
def test_garbage_is_refused(text):
    with pytest.raises(ValueError, match="not a message"):
        decode(text)


@given(text=st.binary(max_size=60))
def test_any_garbage_is_refused(text):
    with pytest.raises(ValueError, match="not a message"):
        decode(text)


@given(data=st.data())
def test_a_damaged_message_is_refused_or_another_message_but_never_anything_else(data):
    """One byte changed: either still a value of the language, or a ValueError."""
    text = bytearray(body(data.draw(values(data.draw(st.sampled_from([Unlisten, TargetChanged, Snapshot]))))))
    text[data.draw(st.integers(0, len(text) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = decode(bytes(text))
    except ValueError:
        return
    assert type(found) in KINDS.values()
