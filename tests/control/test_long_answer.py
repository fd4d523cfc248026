"""Answers in pieces: the same JSON as at once, each piece short, and nothing made before its turn."""

import json

from hypothesis import given
from hypothesis import strategies as st

from tcp_proxy.control import long_answer
from tcp_proxy.control.long_answer import MEMBERS, PIECE, TOGETHER, Long, LongMap, Made, Parts, pieces

leaves = st.none() | st.booleans() | st.integers() | st.text(max_size=5)


def within(inner):
    return (
        st.lists(inner, max_size=4).map(lambda found: ("list", found))
        | st.dictionaries(st.text(max_size=3), inner, max_size=4).map(lambda found: ("map", found))
        | inner.map(lambda found: ("made", found))
        | st.dictionaries(st.text(max_size=3), inner, max_size=3).map(lambda found: ("parts", found))
    )


def long(tree):
    if not isinstance(tree, tuple):
        return tree
    kind, inner = tree
    if kind == "list":
        return Long(map(long, inner))
    if kind == "made":
        return Made(lambda: long(inner))
    pairs = ((key, long(value)) for key, value in inner.items())
    return LongMap(pairs) if kind == "map" else Parts(pairs)


def plain(tree):
    """A member that is None is left out."""
    if not isinstance(tree, tuple):
        return tree
    kind, inner = tree
    if kind == "list":
        return [plain(member) for member in inner if member is not None]
    return plain(inner) if kind == "made" else {key: plain(value) for key, value in inner.items()}


@given(st.recursive(leaves, within, max_leaves=20))
def test_the_pieces_together_are_what_is_meant(tree):
    assert json.loads("".join(pieces(long(tree)))) == plain(tree)


def test_members_are_written_together(monkeypatch):
    """A call of the encoder takes longer than most members."""
    calls, encode = [], long_answer._encode
    monkeypatch.setattr(long_answer, "_encode", lambda value: calls.append(value) or encode(value))
    of_many = {str(n): n for n in range(1000)}
    assert json.loads("".join(pieces(LongMap(of_many.items())))) == of_many
    assert json.loads("".join(pieces(Long(range(1000))))) == list(range(1000))
    assert len(calls) == 2 * 1000 // TOGETHER


def test_a_piece_is_short_however_long_the_answer_is():
    made = 0

    def members():
        nonlocal made
        for number in range(20_000):
            made += 1
            yield None if number % 2 else {"n": number, "text": "x" * (number % 400)}

    before, found = 0, []
    for piece in pieces(Parts({"all": Long(members()), "count": Made(lambda: made)})):
        assert len(piece) <= PIECE + 500 * TOGETHER
        assert made - before <= MEMBERS + TOGETHER
        before = made
        found.append(piece)
    whole = json.loads("".join(found))
    assert (len(whole["all"]), whole["count"]) == (10_000, 20_000)
