"""The states of a client's connection in mode http, and what follows what: one table. Pure.

    READING    ──dial──> DIALING  ──send──> EXCHANGING  ──answered──> READING
    READING    ──send──> EXCHANGING
    READING    ──answered──> READING
    READING    ──close──> CLOSING
    READING    ──end──> DONE
    DIALING    ──answered──> READING
    DIALING    ──end──> DONE
    EXCHANGING ──dial──> DIALING
    EXCHANGING ──break──> CLOSING
    EXCHANGING ──end──> DONE
    CLOSING    ──end──> DONE

Always true: a step that is not drawn raises UnlistedStep; the table is what is drawn (test_states.py).
"""

from enum import IntEnum
from typing import Final


class State(IntEnum):
    READING = 0  # no request is begun; its head may have come in part
    DIALING = 1  # a connection to a target is being made for a request
    EXCHANGING = 2  # a target has the request, or a part of it
    CLOSING = 3  # nothing more is written, but what waits to be
    DONE = 4


class Event(IntEnum):
    DIAL = 0  # no kept connection is there, or it was dead
    SEND = 1  # the head goes to the target
    ANSWERED = 2  # by the target, or by us
    CLOSE = 3  # the last answer is written
    BREAK = 4  # the client has a part of an answer, and the rest will never come
    END = 5  # all is let go: the client is released, or given to a tunnel


# By their own names: looking a member up in its class costs more than all else that is done with it.
READING: Final[State] = State.READING
DIALING: Final[State] = State.DIALING
EXCHANGING: Final[State] = State.EXCHANGING
CLOSING: Final[State] = State.CLOSING
DONE: Final[State] = State.DONE
DIAL: Final[Event] = Event.DIAL
SEND: Final[Event] = Event.SEND
ANSWERED: Final[Event] = Event.ANSWERED
CLOSE: Final[Event] = Event.CLOSE
BREAK: Final[Event] = Event.BREAK
END: Final[Event] = Event.END


class UnlistedStep(Exception):
    """A mistake in this program: an event in a state that has no step for it."""


class _Steps(dict[Event, State]):
    """A dict, as each request takes two of its steps."""

    def __init__(self, state: State, steps: dict[Event, State]) -> None:
        super().__init__(steps)
        self._state = state

    def __missing__(self, event: Event) -> State:
        raise UnlistedStep(f"no step for {event.name} in the state {self._state.name}")


NEXT: Final = {
    READING: _Steps(READING, {DIAL: DIALING, SEND: EXCHANGING, ANSWERED: READING, CLOSE: CLOSING, END: DONE}),
    DIALING: _Steps(DIALING, {SEND: EXCHANGING, ANSWERED: READING, END: DONE}),
    EXCHANGING: _Steps(EXCHANGING, {DIAL: DIALING, ANSWERED: READING, BREAK: CLOSING, END: DONE}),
    CLOSING: _Steps(CLOSING, {END: DONE}),
    DONE: _Steps(DONE, {}),
}
