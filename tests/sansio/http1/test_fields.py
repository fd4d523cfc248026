"""Field blocks: what a proxy takes away, what it keeps, what it remembers."""

import pytest

from tcp_proxy.sansio.http1.fields import UNSAID, Fields, Refused, read_fields, read_trailers


def test_fields_of_one_hop_are_taken_away():
    block = (
        b"Keep: 1\r\nConnection: close, X-Mine\r\nKeep-Alive: timeout=5\r\nProxy-Connection: close\r\nTE: trailers\r\n"
        b"x-mine: secret\r\nUpgrade: h2c\r\nProxy-Authorization: x\r\nProxy-Authenticate: y\r\nkeep: 2\r\n"
    )
    fields = read_fields(block)
    assert fields.kept == b"Keep: 1\r\nkeep: 2\r\n"
    assert fields.options == {b"close", b"x-mine"}


@pytest.mark.parametrize("name", [b"Host", b"Content-Length", b"Transfer-Encoding"])
def test_nobody_has_the_framing_taken_away(name):
    block = b"Connection: %b\r\n%b: %b\r\n" % (name, name, b"chunked" if name[0] == 84 else b"5")
    assert name in read_fields(block).kept


def test_framing_goes_on_without_odd_white_space():
    """A reader that does not strip a tab would see another coding, and so another message."""
    for name, value in ((b"Transfer-Encoding", b"chunked"), (b"Content-Length", b"5"), (b"hOST", b"a")):
        for raw in (b"\t%b", b"%b\t", b"%b", b"  %b \t", b" %b"):
            block = b"%b:%b\r\nA:\tb\t\r\n" % (name, raw % value)
            assert read_fields(block).kept == b"%b: %b\r\nA:\tb\t\r\n" % (name, value)


def test_who_asked_is_not_passed_on_as_it_came():
    block = (
        b"X-Forwarded-For: 1.2.3.4\r\nForwarded: for=1.2.3.4\r\nX-Forwarded-Host: b\r\nX-Forwarded-Proto: https\r\nA: b\r\n"
    )
    fields = read_fields(block)
    assert fields.kept == b"A: b\r\n"
    assert fields.value(b"x-forwarded-for") == b"1.2.3.4"


def test_values_of_one_name_are_a_list():
    assert read_fields(b"Via: x\r\nX-Forwarded-For: a\r\nx-forwarded-for:b\r\n").value(b"x-forwarded-for") == b"a, b"


def test_a_block_is_worked_out_once_unless_it_is_long():
    block = b"A: b\r\nHost: remembered\r\n"
    assert read_fields(block) is read_fields(bytes(bytearray(block)))
    assert read_fields(block * 50) is not read_fields(block * 50)


def test_nothing_is_nothing():
    fields = Fields(b"")
    assert (fields.count, fields.kept, fields.length) == (0, b"", UNSAID)


REASONS = {
    b"A: b\r\n c\r\n": "folded", b"A : b\r\n": "space before a colon", b"A\r\n": "without a colon",
    b": b\r\n": "without a name",
    b"A: b\nC: d\r\n": "bare", b"A: b\rC: d\r\n": "bare", b"A: \0\r\n": "control character", b"A(: b\r\n": "no token",
}  # fmt: skip


def test_the_reason_is_said():
    for block, reason in REASONS.items():
        with pytest.raises(Refused, match=reason):
            read_fields(block)


@pytest.mark.parametrize("name", [b"Content-Length", b"Host", b"Connection", b"X-Forwarded-For"])
def test_trailers_change_nothing(name):
    with pytest.raises(Refused, match="trailer"):
        read_trailers(name + b": 5\r\n")
    assert read_trailers(b"Digest: x\r\n").count == 1
