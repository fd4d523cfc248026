"""Field blocks: what a proxy takes away, what it keeps, what it remembers."""

import pytest

from tcp_proxy.sansio.http1.fields import MOST_HOPS, UNSAID, Fields, Refused, read_answer_fields, read_fields, read_trailers


def test_fields_of_one_hop_are_taken_away():
    block = (
        b"Keep: 1\r\nConnection: close, X-Mine\r\nKeep-Alive: timeout=5\r\nProxy-Connection: close\r\nTE: trailers\r\n"
        b"x-mine: secret\r\nUpgrade: h2c\r\nProxy-Authorization: x\r\nProxy-Authenticate: y\r\nkeep: 2\r\n"
    )
    fields = read_fields(block)
    assert fields.kept == b"Keep: 1\r\nkeep: 2\r\n"
    assert fields.options == {b"close", b"x-mine"}


@pytest.mark.parametrize("one", "!#$%&'*+-.^_`|~")
@pytest.mark.parametrize("name", ["X-Forwarded-For", "x-forwarded-proto", "X-FORWARDED-HOST"])
def test_no_spelling_that_cgi_reads_as_ours_goes_on(one, name):
    """Nor in a trailer; what only looks alike does."""
    for other in "-_.":
        spelt = name.replace("-", one, 1).replace("d-", "d" + other).replace("D-", "D" + other).encode()
        block = b"A: b\r\n%b: 6.6.6.6\r\n%bx: c\r\n" % (spelt, spelt)
        assert read_fields(block).kept == b"A: b\r\n%bx: c\r\n" % spelt
        with pytest.raises(Refused):
            read_trailers(block)


def test_what_connection_takes_away_is_not_there():
    block = b"Connection: x-request-id, date, expect\r\nX-Request-ID: a\r\nDate: b\r\nExpect: 100-continue\r\n"
    fields = read_fields(block)
    assert fields.kept == b"Expect: 100-continue\r\n"  # nobody waits for leave that the target was not asked for
    assert fields.values.keys() == {b"connection", b"expect"}


def test_one_expectation_however_often_it_is_said():
    for block in (b"Expect: 100-continue\r\nexpect: 100-Continue\r\n", b"Expect: 100-continue, 100-continue,\r\n"):
        fields = read_fields(block + b"A: b\r\n")
        assert fields.kept == b"Expect: 100-continue\r\nA: b\r\n"
        assert fields.value(b"expect") == b"100-continue"
    assert read_fields(b"Expect: 100-continue\r\nExpect: more\r\n").value(b"expect") == b"100-continue, more"


def test_a_length_goes_on_without_zeros_before_it():
    """Some readers take 010 for eight."""
    for read in (read_fields, read_answer_fields):
        for text, wanted in ((b"010", 10), (b"0", 0), (b"00", 0), (b"7", 7), (b"0" * 17 + b"1", 1)):
            fields = read(b"Content-Length: %b\r\n" % text)
            assert (fields.length, fields.kept) == (wanted, b"Content-Length: %d\r\n" % wanted)


@pytest.mark.parametrize("text", [b",chunked", b"chunked,", b", ,\t,Chunked , "])
def test_a_coding_goes_on_without_empty_members(text):
    for read in (read_fields, read_answer_fields):
        coding = b"Chunked" if b"C" in text else b"chunked"
        assert read(b"A: b\r\nTransfer-Encoding: %b\r\n" % text).kept == b"A: b\r\nTransfer-Encoding: %b\r\n" % coding


def test_what_a_target_s_fields_say_is_remembered_apart():
    block = b"Connection: a/b\r\nDate: remembered apart\r\n"
    assert read_answer_fields(block) is read_answer_fields(bytes(bytearray(block)))
    with pytest.raises(Refused):
        read_fields(block)


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


OURS = b"Via: 1.1 tcp_proxy\r\n"


@pytest.mark.parametrize(
    "block",
    [
        OURS * MOST_HOPS,
        b"Via: " + b", ".join([b"1.1 tcp_proxy"] * MOST_HOPS) + b"\r\n",
        b"via:HTTP/1.0\ttcp_proxy (other) ,\r\n" + b"Via: 1.1 cache\r\n" + OURS * (MOST_HOPS - 1),
    ],
)
def test_a_request_that_has_come_through_us_too_often_is_in_a_loop(block):
    with pytest.raises(Refused, match="an app leads back to itself") as refused:
        read_fields(block)
    assert refused.value.status == 508
    assert read_answer_fields(block).kept == block


@pytest.mark.parametrize("other", [b"1.1 tcp_proxy2", b"1.1 tcp_proxy:80", b"1.1 vegur", b"2.0 tcp_proxy", b"tcp_proxy"])
def test_other_names_in_via_are_not_counted(other):
    block = OURS * (MOST_HOPS - 1) + b"Via: " + other + b"\r\n"
    assert read_fields(block).kept == block
