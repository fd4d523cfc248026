"""W3C Trace Context: what is taken up, what begins anew, and what goes on. The examples are those of its specification."""

import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcp_proxy.sansio.trace_context import BOTH, NOTHING, ONLY_PARENT, begin, is_sampled, take_up

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
LINE = re.compile(rb"traceparent: 00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})\r\n")


def bits(size):
    return (1 << size) - 1


def taken(text, sample=1.0):
    return take_up({b"traceparent": [text.encode()]}, sample, bits)


@pytest.mark.parametrize(
    ("text", "flags"),
    [
        (f"00-{TRACE}-{PARENT}-01", "01"),
        (f"00-{TRACE}-{PARENT}-03", "03"),
        (f"00-{TRACE}-{PARENT}-ff", "03"),  # those that nobody knows are not passed on
        (f"01-{TRACE}-{PARENT}-01", "01"),
        (f"cc-{TRACE}-{PARENT}-01-what-the-future-will-be-like", "01"),
        (f"fe-{TRACE}-{PARENT}-01-", "01"),
    ],
)
def test_a_trace_that_is_recorded_goes_on_with_a_span_of_ours(text, flags):
    span = taken(text, sample=0.0)
    assert span[:4] == (TRACE, "f" * 16, PARENT, True)
    assert (span.line, span.dropped) == (f"traceparent: 00-{TRACE}-{'f' * 16}-{flags}\r\n".encode(), ONLY_PARENT)


@pytest.mark.parametrize("flags", ["00", "02", "fe"])
def test_one_that_nobody_records_goes_on_as_it_came(flags):
    span = taken(f"00-{TRACE}-{PARENT}-{flags}")
    assert (span.trace, span.is_sampled, span.line, span.dropped) == (TRACE, False, b"", NOTHING)


@pytest.mark.parametrize(
    "text",
    [
        "", "-", "00", TRACE, f"00-{TRACE}-{PARENT}", f"00-{TRACE}-{PARENT}-", f"00-{TRACE}-{PARENT}-1",
        f"00-{TRACE}-{PARENT}-01-", f"00-{TRACE}-{PARENT}-01-more", f"00-{TRACE}-{PARENT}-01.",
        f"cc-{TRACE}-{PARENT}-01.more",
        f"ff-{TRACE}-{PARENT}-01", f"00-{'0' * 32}-{PARENT}-01", f"00-{TRACE}-{'0' * 16}-01", f"0-{TRACE}-{PARENT}-01",
        f"00-{TRACE.upper()}-{PARENT}-01", f"00-{TRACE}-{PARENT.upper()}-01", f"0G-{TRACE}-{PARENT}-01",
        f"00-{TRACE[1:]}-{PARENT}-01", f"00-{TRACE}0-{PARENT}-01", f"00-{TRACE}-{PARENT}-0x", f"00_{TRACE}_{PARENT}_01",
    ],
)  # fmt: skip
def test_what_is_none_begins_anew_and_its_state_does_not_go_on(text):
    span = taken(text)
    assert (span.trace, span.parent, span.dropped) == ("f" * 32, "", BOTH)
    assert LINE.fullmatch(span.line)[3] == b"03"


def test_several_are_none():
    line = f"00-{TRACE}-{PARENT}-01".encode()
    assert take_up({b"traceparent": [line, line]}, 1.0, bits).trace == "f" * 32


def test_what_is_not_sampled_says_so():
    span = take_up({}, 0.0, bits)
    assert not span.is_sampled
    assert LINE.fullmatch(span.line)[3] == b"02"


def test_zero_is_no_number():
    span = begin(1.0, lambda _size: 0)
    assert (span.trace, span.span) == ("0" * 31 + "1", "0" * 15 + "1")


@given(st.integers(0, (1 << 128) - 1))
def test_all_or_none_by_the_last_bits(trace):
    assert is_sampled(trace, 1.0)
    assert not is_sampled(trace, 0.0)
    assert is_sampled(trace, 0.5) is (trace & (1 << 63) == 0)


@given(st.binary(max_size=80), st.integers())
def test_whatever_comes_what_goes_on_is_one(text, seed):
    span = take_up({b"traceparent": [text]}, 0.5, random.Random(seed).getrandbits)
    assert not span.line or LINE.fullmatch(span.line)
