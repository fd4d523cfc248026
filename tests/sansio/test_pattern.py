"""What is looked for in an answer."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcp_proxy.sansio.pattern import regex, text


def test_text():
    assert text(b"+PONG")(bytearray(b"x+PONG\r\n")) == b"+PONG"
    assert text(b"+PONG")(bytearray(b"x+PON")) is None


@pytest.mark.parametrize(
    ("pattern", "heard", "found"),
    [
        (r"^OK \d+\r\n", b"OK 12\r\nmore", b"OK 12\r\n"),
        (r"^OK", b"not OK", None),
        (r"\xff.", b"a\xff\xfe", b"\xff\xfe"),
        ("\u00e9", "caf\u00e9".encode(), "\u00e9".encode()),
        ("(?i)ready|well", b"READY", b"READY"),
        ("a|ab", b"ab", b"a"),
        ("x*", b"yyy", b""),
    ],
)
def test_regex(pattern, heard, found):
    assert regex(pattern)(bytearray(heard)) == found


PATTERNS = st.recursive(
    st.sampled_from(["a", "b", ".", "[ab]", "[^a]", r"\d", "^", r"\x00"]),
    lambda parts: st.one_of(
        st.tuples(parts, parts).map("".join),
        st.tuples(parts, parts).map("(?:{0[0]}|{0[1]})".format),
        st.tuples(parts, st.sampled_from(["*", "+", "?", "{1,3}", "*?"])).map("(?:{0[0]}){0[1]}".format),
    ),
    max_leaves=6,
)


@given(PATTERNS, st.lists(st.sampled_from(b"ab1\n\0"), max_size=8).map(bytearray))
def test_it_finds_what_pythons_finds(pattern, heard):
    found = re.search(pattern.encode(), heard)
    assert (regex(pattern)(heard) is None) is (found is None)


def test_an_expression_that_could_match_in_many_ways():
    """Python's needs 2^65535 steps for this one."""
    assert regex(r"(a+)+$")(bytearray(b"a" * 65535 + b"!")) is None


def test_what_is_none():
    with pytest.raises(ValueError, match=r"not a regular expression of RE2: missing \): \(a"):
        regex("(a")
