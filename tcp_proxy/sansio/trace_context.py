"""W3C Trace Context, levels 1 and 2: what `traceparent` says, whether a trace is recorded, and what goes on. Pure; random
bits are an argument.

    version-trace_id-parent_id-flags    00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01

A traceparent that is none of that begins a trace anew, and tracestate, which belongs to it, does not go on. Of a version
above ours what we know is taken, and ours is passed on. A trace that is taken up is recorded if those before us record it;
of those that begin here a part is, by their number, so that everybody who samples the same part has the same traces.
"""

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

PARENT = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.DOTALL)
SAMPLED, RANDOM = 1, 2  # the flags that there are
NO_TRACE, NO_SPAN = b"0" * 32, b"0" * 16
ONLY_PARENT = frozenset({b"traceparent"})
BOTH = frozenset({b"traceparent", b"tracestate"})
NOTHING: frozenset[bytes] = frozenset()
_LAST_64 = (1 << 64) - 1

Bits = Callable[[int], int]  # so many random bits


class Span(NamedTuple):
    """One of ours: its trace, itself, the one that it belongs to ("" where the trace begins here). `line`: for the target,
    in the place of the fields in `dropped`."""

    trace: str
    span: str
    parent: str
    is_sampled: bool
    line: bytes = b""
    dropped: frozenset[bytes] = NOTHING


def begin(sample: float, bits: Bits) -> Span:
    """A trace that begins here, and is nobody's before."""
    number = bits(128) or 1
    sampled = is_sampled(number, sample)
    trace, span, flags = f"{number:032x}", f"{bits(64) or 1:016x}", RANDOM | SAMPLED if sampled else RANDOM
    line = f"traceparent: 00-{trace}-{span}-{flags:02x}\r\n"
    return Span(trace, span, "", sampled, line.encode(), BOTH)


def take_up(values: Mapping[bytes, list[bytes]], sample: float, bits: Bits) -> Span:
    """Of a request, by the values of its fields."""
    lines = values.get(b"traceparent")
    found = PARENT.fullmatch(lines[0]) if lines is not None and len(lines) == 1 else None
    if found is None:
        return begin(sample, bits)
    version, trace, parent, flags, more = found.groups()
    if version == b"ff" or (version == b"00" and more is not None) or trace == NO_TRACE or parent == NO_SPAN:
        return begin(sample, bits)
    said = int(flags, 16)
    if not said & SAMPLED:  # nobody records it, so it goes on as it came
        return Span(trace.decode(), parent.decode(), "", False)
    span = f"{bits(64) or 1:016x}"
    line = b"traceparent: 00-%b-%b-%02x\r\n" % (trace, span.encode(), said & (SAMPLED | RANDOM))
    return Span(trace.decode(), span, parent.decode(), True, line, ONLY_PARENT)


def is_sampled(trace: int, sample: float) -> bool:
    """By the 64 bits that are random in any case, as other implementations do it."""
    return (trace & _LAST_64) < int(sample * (_LAST_64 + 1))
