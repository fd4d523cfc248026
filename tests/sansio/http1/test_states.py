"""The table of a client's states: the drawing is the table, and every other step raises."""

import re

import pytest

from kit.docstrings import docstring_of
from tcp_proxy.sansio.http1 import states
from tcp_proxy.sansio.http1.states import NEXT, Event, State, UnlistedStep


def drawn():
    """(state, event, next state) of each arrow in the docstring."""
    for line in docstring_of(states).splitlines():
        words = re.split(r"\s*──(.+?)──>\s*", line.strip())
        for place in range(0, len(words) - 2, 2):
            before, event, after = words[place : place + 3]
            yield State[before], Event[event.upper()], State[after]


def test_the_drawing_is_the_table():
    assert sorted(drawn()) == sorted((state, event, after) for state in NEXT for event, after in NEXT[state].items())


@pytest.mark.parametrize("event", Event)
@pytest.mark.parametrize("state", State)
def test_a_step_that_is_not_drawn_raises(state, event):
    if (state, event) in {(before, what) for before, what, _ in drawn()}:
        assert NEXT[state][event] in State
    else:
        with pytest.raises(UnlistedStep, match=f"{event.name} in the state {state.name}"):
            NEXT[state][event]
