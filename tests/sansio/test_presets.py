"""The presets without a server: what they believe and what they refuse, however the answer arrives in pieces."""

import contextlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcp_proxy.sansio.dialogue import Refused, Silence
from tcp_proxy.sansio.presets import NAMED_USERS, OWN_TLS, PRESETS, TIMEOUTS
from tests.sansio.test_dialogue import cut, pieces, play


def my(number, payload):
    return len(payload).to_bytes(3, "little") + bytes([number]) + payload


def my_error(code, words, number=2):
    return my(number, b"\xff" + code.to_bytes(2, "little") + b"#HY000" + words)


def pg_error(code, words, routine=b"InitProcess"):
    fields = b"SFATAL\0VFATAL\0C" + code + b"\0M" + words + b"\0R" + routine + b"\0\0"
    return b"E" + (len(fields) + 4).to_bytes(4, "big") + fields


PG_OK = b"R\0\0\0\x08\0\0\0\0"
GREETING = my(0, b"\x0a8.0.36\0" + bytes(30))
SWITCH = my(2, b"\xfecaching_sha2_password\0" + bytes(20))
OK = my(2, b"\0\0\0\x02\0\0\0")
DENIED = my_error(1045, b"Access denied for user")
NEW_DENIED = my_error(1045, b"Access denied for user", 4)

HEALTHY = [
    ("postgres", [PG_OK + b"S\0\0\0\x08a\0b\0" + b"Z\0\0\0\x05I"], "answered, ready for queries"),
    ("postgres", [PG_OK + pg_error(b"28000", b"no such role")], 'answered "no such role" (28000)'),
    ("postgres", [b"R\0\0\0\x0c\0\0\0\x05salt"], "answered with a request to log in"),
    ("postgres", [pg_error(b"28000", b"no such role")], 'answered "no such role" (28000)'),
    *(
        ("postgres", [PG_OK + pg_error(b"53300", b"too many for it", routine)], 'answered "too many for it" (53300)')
        for routine in (b"InitializeSessionUserId", b"CheckMyDatabase")  # the limit of the role, of database postgres
    ),
    ("postgres", [PG_OK], "answered, logged in"),
    ("postgres", [PG_OK + b"S\0\0\0\x08a\0b\0K"], "answered, logged in"),
    ("mysql", [GREETING, OK], 'answered as version "8.0.36"'),
    ("mysql", [GREETING, DENIED], 'answered as version "8.0.36"'),
    ("mysql", [my(0, b"\x0a5.5.5-10.11.19-MariaDB\0" + bytes(30)), OK], 'answered as version "10.11.19-MariaDB"'),
    ("mysql", [GREETING, SWITCH, NEW_DENIED], 'answered as version "8.0.36"'),
    ("mysql", [GREETING, my(2, b"\x01\x04")], 'answered as version "8.0.36"'),
    # of the user alone: over its limits, with an old password, blocked for too many logins without one, locked
    *(
        ("mysql", [GREETING, my_error(code, b"of the user")], 'answered as version "8.0.36"')
        for code in (1203, 1226, 1862, 3118, 3955, 4150, 4151)
    ),
]

SICK = [
    ("postgres", [pg_error(b"57P03", b"the database system is starting up")], "starting up\" (57P03)"),
    ("postgres", [pg_error(b"53300", b"too many clients already")], "(53300)"),
    ("postgres", [PG_OK + pg_error(b"53300", b"reserved for superusers")], "(53300)"),
    ("postgres", [pg_error(b"", b"no more connections allowed")], "\"no more connections allowed\" (without an SQLSTATE)"),
    ("postgres", [pg_error(b"08P01", b"pgbouncer cannot connect to server")], "(08P01)"),
    ("postgres", [b"HTTP/1.1 400 Bad Request\r\n"], "which is not PostgreSQL's protocol"),
    ("mysql", [my(0, b"\xff\x69\x04Host is blocked")], "answered \"Host is blocked\" (error 1129)"),
    ("mysql", [GREETING, my_error(1040, b"Too many connections")], "(error 1040)"),
    ("mysql", [my(0, b"\x09old\0")], "which is not MySQL's protocol"),
    ("mysql", [GREETING], "ended the connection"),
]


@pytest.mark.parametrize(("name", "answers", "text"), HEALTHY)
@given(data=st.data())
def test_healthy(name, answers, text, data):
    assert play(PRESETS[name](""), *cut(data, answers))[1].text == text


@pytest.mark.parametrize(("name", "answers", "text"), SICK)
@given(data=st.data())
def test_sick(name, answers, text, data):
    """However it arrives; where it is not even the protocol, the words may be fewer."""
    with pytest.raises(Refused, match=re.escape(text)):
        play(PRESETS[name](""), *cut(data, answers))


def test_postgres_that_lets_in_and_is_silent():
    dialogue = PRESETS["postgres"]("")
    next(dialogue)
    dialogue.send(PG_OK)
    with pytest.raises(StopIteration) as end:
        dialogue.throw(Silence())
    assert end.value.value.text == "answered, logged in"


@pytest.mark.parametrize("name", PRESETS)
@given(noise=st.binary(max_size=200), data=st.data())
def test_noise_is_no_health_and_no_exception(name, noise, data):
    """Whatever a server says: a Reply, or Refused."""
    with contextlib.suppress(Refused):
        play(PRESETS[name](""), data.draw(pieces(noise)))


def test_the_lists_name_presets():
    assert NAMED_USERS | OWN_TLS | TIMEOUTS.keys() <= PRESETS.keys()
    assert list(PRESETS) == sorted(PRESETS)


def test_what_is_said():
    said, reply = play(PRESETS["postgres"]("monitor"), PG_OK + b"Z\0\0\0\x05I")
    assert int.from_bytes(said[:4], "big") == len(said)
    assert said[4:22] == b"\0\3\0\0user\0monitor\0d"
    assert reply.farewell == b"X\0\0\0\x04"


def test_mysql_is_left_in_order():
    """A login that is broken off would count against this machine until the server blocks it."""
    said, reply = play(PRESETS["mysql"]("monitor"), GREETING, OK)
    assert said[:4] == (len(said) - 4).to_bytes(3, "little") + b"\x01"
    assert b"monitor\0\0mysql_native_password\0" in said
    assert reply.farewell == b"\x01\0\0\0\x01", "COM_QUIT"
    said, reply = play(PRESETS["mysql"](""), GREETING, SWITCH, NEW_DENIED)
    assert said.endswith(b"\0\0\0\x03"), "an empty password"
    assert reply.farewell == b""
