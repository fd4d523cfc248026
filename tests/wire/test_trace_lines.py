"""A record that is traced is what it was when it has come, with text for bytes."""

import pytest

from tcp_proxy.wire.records import Record, RequestRecord
from tcp_proxy.wire.trace_lines import is_traced, line, read

TRACE = ("a" * 32, "b" * 16, "")
SESSION = Record(
    "w1-7", "s\n", "127.0.0.1:80", "[::1]:4711", "t", (("x", "ECONNREFUSED"),), 0.5, 2.0, 3, 4, "target", "done", "", 99.5,
    trace=TRACE,
)  # fmt: skip
REQUEST = RequestRecord(
    "request", "w1-7-1", "shop", "127.0.0.1:80", "[::1]:4711", "t", b"GET /\xff\" HTTP/1.1", b"a", 200, 0, 4, 0.5, 2.0, b"",
    b"agent\n", "done", 99.5, trace=TRACE, tried=(("x", "ECONNREFUSED"),),
)  # fmt: skip


def listed(value):
    return [listed(one) for one in value] if isinstance(value, tuple) else value


def test_there_and_back():
    for record in (SESSION, REQUEST):
        text = line(tuple(record))
        assert text.count("\n") == 1
        found = read(text.encode())
        assert type(found) is type(record)
        assert list(found) == [one.decode("latin-1") if isinstance(one, bytes) else listed(one) for one in record]


@pytest.mark.parametrize("record", [SESSION, REQUEST])
def test_what_is_traced_is_told_by_its_trace_alone(record):
    rest = {name: type(value)() for name, value in record._asdict().items() if name not in ("kind", "id", "trace")}
    assert is_traced(tuple(record._replace(**rest, trace=("t", "s", ""))))
    assert not is_traced(tuple(record._replace(trace=())))


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"{}", b'"request"', b'["request"]', b"[1, 2]", b"\xff"])
def test_what_is_none(text):
    with pytest.raises(ValueError):  # noqa: PT011  of many kinds
        read(text)
