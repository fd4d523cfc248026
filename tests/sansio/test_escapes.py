"""Bytes written as text, and shown as text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcp_proxy.sansio.escapes import decoded, escaped


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ("", b""),
        ("PING\r\n", b"PING\r\n"),
        (r"PING\r\n", b"PING\r\n"),
        (r"\x00\xff\0\t\\n", b"\x00\xff\0\t\\n"),
        ("é", "é".encode()),
    ],
)
def test_decoded(text, data):
    assert decoded(text) == data


@pytest.mark.parametrize("text", [r"\y", r"\x1", r"\xg0", "a\\", r"\u0041", "\\\n"])
def test_what_is_no_escape_is_an_error(text):
    with pytest.raises(ValueError, match="is no escape"):
        decoded(text)


@given(st.binary(max_size=50))
def test_what_is_shown_can_be_written(data):
    assert decoded(escaped(data)[1:-1]) == data


def test_much_is_cut():
    assert escaped(b"x" * 70, 10) == '"xxxxxxxxxx"…'
