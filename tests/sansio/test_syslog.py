"""Names of syslog servers, and messages as RFC 5424 has them."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcp_proxy.sansio.address import Address
from tcp_proxy.sansio.syslog import LONGEST, Receiver, counted, header, is_syslog, message, parse

# RFC 5424, 6: header and structured data.
RFC_5424 = re.compile(
    rb"<(0|[1-9][0-9]{0,2})>1 (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z)"
    rb" ([!-~]{1,255}) ([!-~]{1,48}) ([!-~]{1,128}) - -(?: (.*))?",
    re.DOTALL,
)
UDP = Receiver("udp", Address("192.0.2.9", 514))
WHEN = "2026-11-21T07:33:44.123Z"


@pytest.mark.parametrize(
    ("text", "receiver"),
    [
        ("syslog+udp://192.0.2.9:514", UDP),
        ("syslog+tcp://[2001:db8::1]:601", Receiver("tcp", Address("2001:db8::1", 601))),
        ("syslog+unix:///dev/log", Receiver("unix", Address(path="/dev/log"))),
        ("syslog+udp://192.0.2.9:514?facility=local3&tag=web-1", UDP._replace(facility="local3", tag="web-1")),
        ("syslog+udp://192.0.2.9:514?tag=x", UDP._replace(tag="x")),
        ("syslog+udp://192.0.2.9:514?", UDP),
    ],
)
def test_who_gets_them(text, receiver):
    assert is_syslog(text)
    assert parse(text) == receiver


@pytest.mark.parametrize(
    ("text", "clause"),
    [
        ("syslog+udp:192.0.2.9:514", 'wanted "syslog+udp://ADDRESS:PORT"'),
        ("syslog+http://a:1", 'wanted "syslog+udp://ADDRESS:PORT"'),
        ("syslog+udp://192.0.2.9", "no port"),
        ("syslog+udp:///dev/log", 'wanted "'),
        ("syslog+unix://dev/log", "absolute path"),
        ("syslog+udp://unix:/dev/log", 'wanted "syslog+udp'),
        ("syslog+udp://logs.example:514", '"logs.example" is a name, which nobody looks up'),
        ("syslog+udp://192.0.2.9:1?level=x", 'wanted "facility" or "tag"'),
        ("syslog+udp://192.0.2.9:1?facility=local8", 'there is no facility "local8"; wanted one of kern, user'),
        ("syslog+udp://192.0.2.9:1?tag=", "wanted a tag of 1 to 48"),
        ("syslog+udp://192.0.2.9:1?tag=a b", "wanted a tag of 1 to 48"),
    ],
)
def test_who_can_be_nobody_is_said(text, clause):
    with pytest.raises(ValueError, match=re.escape(clause)):
        parse(text)


def test_a_path_is_no_server():
    assert not any(map(is_syslog, ("syslog", "/var/log/syslog", "-", "syslog.txt")))


def test_a_message_is_one_of_rfc_5424():
    head = header(UDP._replace(facility="local3", tag="edge"), "proxy1", 4711, WHEN)
    assert head == b"<158>1 2026-11-21T07:33:44.123Z proxy1 edge 4711 - - "
    assert RFC_5424.fullmatch(message(head, b"id=x app=web")).group(6) == b"id=x app=web"


@given(st.text(max_size=300), st.binary(max_size=2 * LONGEST))
def test_whatever_the_machine_is_called_and_the_line_says(host, line):
    whole = message(header(UDP, host, 1, WHEN), line)
    assert RFC_5424.fullmatch(whole)
    assert len(whole) <= LONGEST


def test_no_message_is_longer_than_rsyslog_takes_by_default():
    assert len(message(header(UDP, "h", 1, WHEN), b"x" * 10_000)) == 8096


def test_a_long_line_is_not_cut_in_a_character():
    head = header(UDP, "h", 1, WHEN)
    for extra in range(3):
        message(head, b"x" * extra + "é".encode() * LONGEST).decode()


def test_a_message_in_a_stream_has_its_length_before_it():
    assert counted(b"<14>1 x") == b"7 <14>1 x"
