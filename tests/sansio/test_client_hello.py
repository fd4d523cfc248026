"""ClientHellos as real clients send them, cut anywhere, and what is none. The recorded ones (client_hellos/) ask for
www.example.org and were taken from a socket: OpenSSL 3.0.19, curl 7.88.1, Python 3.11, Go 1.26, Java 17, Chromium 156."""

import pathlib
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tcp_proxy.sansio.client_hello import MOST, ClientHello, ClientHelloReader, NoClientHello

RECORDED = {path.stem: path.read_bytes() for path in sorted((pathlib.Path(__file__).parent / "client_hellos").glob("*.bin"))}
H2_FIRST = ("h2", "http/1.1")
NEW = (0x0304, 0x0303)
ALL = (0x0304, 0x0303, 0x0302, 0x0301)
SAID = {
    "chromium": ClientHello("www.example.org", H2_FIRST, NEW),
    "chromium-2": ClientHello("www.example.org", H2_FIRST, NEW),
    "chromium-3": ClientHello("www.example.org", H2_FIRST, NEW),
    "curl": ClientHello("www.example.org", H2_FIRST, ALL),
    "go": ClientHello("www.example.org", H2_FIRST, NEW),
    "java": ClientHello("www.example.org", H2_FIRST, NEW),
    "openssl": ClientHello("www.example.org", H2_FIRST, ALL),
    "python": ClientHello("www.example.org", (), NEW),
}


def read(data, cuts=()):
    """What the reader says when the data comes cut at these places; the message must not be complete before the last cut."""
    reader = ClientHelloReader()
    before = 0
    for cut in [*sorted(cuts), len(data)]:
        found = reader.feed(data[before:cut])
        before = cut
        if found is not None:
            return found
    return None


def vector(data, size):
    return len(data).to_bytes(size, "big") + data


def extension(kind, data):
    return kind.to_bytes(2, "big") + vector(data, 2)


def name_extension(*names, kind=0):
    return extension(0, vector(b"".join(bytes([kind]) + vector(name, 2) for name in names), 2))


def body(extensions=b"", version=b"\3\3", tail=b""):
    start = version + bytes(32) + vector(b"", 1) + vector(b"\x13\1", 2) + vector(b"\0", 1)
    return start + (vector(extensions, 2) if extensions is not None else b"") + tail


def message(hello, kind=1):
    return bytes([kind]) + len(hello).to_bytes(3, "big") + hello


def records(data, size=16384, kind=22):
    return b"".join(bytes([kind, 3, 1]) + vector(data[start : start + size], 2) for start in range(0, len(data), size))


def hello(*extensions):
    return records(message(body(b"".join(extensions))))


@pytest.mark.parametrize("client", RECORDED)
def test_real_clients_are_understood(client):
    assert read(RECORDED[client]) == SAID[client]


def test_every_recorded_one_is_expected():
    assert RECORDED.keys() == SAID.keys()


@pytest.mark.parametrize("client", RECORDED)
def test_a_real_one_cut_at_every_byte_is_the_same(client):
    data = RECORDED[client]
    for cut in range(1, len(data)):
        reader = ClientHelloReader()
        assert reader.feed(data[:cut]) is None, f"complete after {cut} bytes"
        assert reader.feed(data[cut:]) == SAID[client]


@pytest.mark.parametrize("client", RECORDED)
def test_a_real_one_byte_by_byte(client):
    data = RECORDED[client]
    assert read(data, range(1, len(data))) == SAID[client]


@pytest.mark.parametrize("client", [name for name in RECORDED if name.startswith("chromium")])
def test_a_browsers_name_may_stand_behind_the_first_segment(client):
    """Not in each of them: the order is random. All are larger than a segment of 1,460 bytes."""
    assert len(RECORDED[client]) > 1460
    assert RECORDED[client].count(b"www.example.org") == 1


@given(
    client=st.sampled_from(sorted(RECORDED)),
    size=st.integers(10, 600),
    cuts=st.sets(st.integers(1, 4000), max_size=20),
)
@settings(deadline=None)
def test_any_records_and_any_cuts(client, size, cuts):
    data = records(RECORDED[client][5:], size)
    assert read(data, [cut for cut in cuts if cut < len(data)]) == SAID[client]


@given(names=st.permutations(["name", "alpn", "versions", "grease", "ech", "padding"]))
def test_the_order_of_extensions_does_not_matter(names):
    parts = {
        "name": name_extension(b"A.Example"),
        "alpn": extension(16, vector(vector(b"\x2a\x2a", 1) + vector(b"h2", 1), 2)),
        "versions": extension(43, vector(b"\x1a\x1a\3\4\3\3", 1)),
        "grease": extension(0x5A5A, b""),
        "ech": extension(0xFE0D, random.Random(1).randbytes(282)),
        "padding": extension(21, bytes(700)),
    }
    assert read(hello(*[parts[name] for name in names])) == ClientHello("a.example", ("h2",), (0x0304, 0x0303))


def test_what_comes_behind_the_message_is_not_looked_at():
    """Early data, say."""
    assert read(hello(name_extension(b"a")) + b"anything") == ClientHello("a", (), (0x0303,))


def test_without_extensions_there_is_no_name():
    assert read(records(message(body(None)))) == ClientHello("", (), (0x0303,))
    assert read(hello()) == ClientHello("", (), (0x0303,))


def test_a_dot_at_the_end_and_letter_case_do_not_count():
    assert read(hello(name_extension(b"WWW.Example.ORG."))).server_name == "www.example.org"


def test_a_name_of_another_kind_is_none():
    assert read(hello(name_extension(b"a", kind=7))).server_name == ""


def test_the_largest_message_is_read():
    start = len(body(extension(21, b"")))
    data = records(message(body(extension(21, bytes(65535 - 4)))))
    assert len(data) > 65536
    assert start < MOST
    with pytest.raises(NoClientHello, match="a ClientHello of 65"):
        read(data)
    left = MOST - 4 - start - len(name_extension(b"last"))
    data = records(message(body(extension(21, bytes(left)) + name_extension(b"last"))))
    assert read(data).server_name == "last"


@pytest.mark.parametrize(
    "first", [b"GET / HTTP/1.1\r\n\r\n", b"SSH-2.0-x\r\n", b"\x80\x2e\1\0\2", b"\0\0\0\x08\x04\xd2\x16\x2f", b"\x16\2"]
)
def test_no_tls_at_all_is_known_by_the_first_bytes(first):
    with pytest.raises(NoClientHello, match="it does not begin as TLS") as raised:
        ClientHelloReader().feed(first)
    assert not raised.value.is_tls


BAD = {
    "a handshake that begins with message type 2": records(message(body(), 2)),
    "a record of 0 bytes": b"\x16\3\1\0\0",
    "a record of 16385 bytes": b"\x16\3\1\x40\1",
    "the message is broken off": records(message(body())[:20]) + b"\x15\3\1\0\2\2\x28",
    "a ClientHello in too many records": records(message(body(extension(21, bytes(2000)))), 1),
    "shorter than it says": records(message(body()[:40])),
    "with bytes behind it": records(message(body(tail=b"x"))),
    "extension 0 twice": hello(name_extension(b"a"), name_extension(b"a")),
    "a server name that is no name": hello(name_extension(b"a\0.example")),
    "a server name that is no name ": hello(name_extension(b"")),
    "an extension with bytes behind it": hello(extension(16, vector(vector(b"h2", 1), 2) + b"x")),
    "a protocol without a name": hello(extension(16, vector(vector(b"", 1), 2))),
    "a ClientHello of 16777219 bytes": records(b"\1\xff\xff\xff" + bytes(100)),
}


@pytest.mark.parametrize("fault", BAD)
def test_what_is_wrong_is_said(fault):
    data = BAD[fault]
    for cuts in ((), range(1, len(data))):
        with pytest.raises(NoClientHello, match=fault.strip()) as raised:
            read(data, cuts)
        assert raised.value.is_tls


@given(data=st.binary(max_size=300), client=st.sampled_from(sorted(RECORDED)), at=st.integers(0, 2100))
@settings(deadline=None, max_examples=300)
def test_no_bytes_raise_anything_else(data, client, at):
    for mutated in (data, RECORDED[client][:at] + data + RECORDED[client][at + len(data) :]):
        reader = ClientHelloReader()
        try:
            for start in range(0, len(mutated), 97):
                if reader.feed(mutated[start : start + 97]) is not None:
                    break
        except NoClientHello:
            pass
