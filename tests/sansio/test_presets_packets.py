"""MQTT, LDAP and DNS without a server: what is believed, what is refused, in whatever pieces and lengths."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcp_proxy.sansio.dialogue import Refused
from tcp_proxy.sansio.presets import PRESETS
from tests.sansio.test_dialogue import cut, play


def bound(code, message_id=b"\x02\x01\x01"):
    response = b"\x0a\x01" + bytes([code]) + b"\x04\x00\x04\x00"
    inner = message_id + b"\x61" + bytes([len(response)]) + response
    return b"\x30" + bytes([len(inner)]) + inner


def dns(code, name=b"tp", flags=0x84):
    message = name + bytes([flags, code]) + b"\x00\x01\x00\x00\x00\x00\x00\x00" + b"\x00\x00\x02\x00\x01"
    return len(message).to_bytes(2, "big") + message


# What Active Directory sends: every length in four bytes.
LONG = bytes.fromhex("308400000010 020101 618400000007 0a0100 0400 0400".replace(" ", ""))

HEALTHY = [
    ("mqtt", b"\x20\x02\x00\x00", "answered with code 0", b"\xe0\x00"),
    ("mqtt", b"\x20\x02\x00\x05", "answered with code 5", b""),
    ("mqtt", b"\x20\x03\x00\x84\x00", "answered with code 132", b""),
    ("ldap", bound(0), "answered with result code 0", b"\x30\x05\x02\x01\x02\x42\x00"),
    ("ldap", bound(48), "answered with result code 48", b"\x30\x05\x02\x01\x02\x42\x00"),
    ("ldap", LONG, "answered with result code 0", b"\x30\x05\x02\x01\x02\x42\x00"),
    ("dns", dns(0), "answered NOERROR", b""),
    ("dns", dns(5), "answered REFUSED", b""),
]

SICK = [
    ("mqtt", b"\x20\x02\x00\x03", "answered server unavailable (code 3)"),
    ("mqtt", b"HTTP/1.1 400 Bad Request\r\n" + bytes(100), "which is not MQTT"),
    ("mqtt", b"", "without an answer"),
    ("ldap", bound(51), "answered with result code 51"),
    ("ldap", bound(52), "answered with result code 52"),
    ("ldap", b"HTTP/1.1", "which is not LDAP"),
    ("ldap", b"\x30\x03\x02\x01\x01", "which is not LDAP"),
    ("dns", dns(2), "answered SERVFAIL"),
    ("dns", dns(11), "answered RCODE 11"),
    ("dns", dns(0, name=b"xx"), "which is not DNS"),
    ("dns", dns(0, flags=0), "which is not DNS"),
    ("dns", b"\x00\x02tp", "which is not DNS"),
]


@pytest.mark.parametrize(("name", "answer", "text", "farewell"), HEALTHY)
@given(data=st.data())
def test_healthy(name, answer, text, farewell, data):
    reply = play(PRESETS[name](""), *cut(data, [answer]))[1]
    assert (reply.text, reply.farewell) == (text, farewell)


@pytest.mark.parametrize(("name", "answer", "text"), SICK)
@given(data=st.data())
def test_sick(name, answer, text, data):
    """Where it is not even the protocol, the words may be fewer."""
    with pytest.raises(Refused, match=re.escape(text)):
        play(PRESETS[name](""), *cut(data, [answer]))


def test_what_is_said():
    said = play(PRESETS["mqtt"](""), b"\x20\x02\x00\x00")[0]
    assert said == b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00"
    assert said[1] == len(said) - 2
    said = play(PRESETS["ldap"](""), bound(0))[0]
    assert said[1] == len(said) - 2
    said = play(PRESETS["dns"](""), dns(0))[0]
    assert int.from_bytes(said[:2], "big") == len(said) - 2
