"""The states of a session and the steps between them; dataplane.session draws them. Values only."""

from enum import IntEnum


class State(IntEnum):
    DIALING = 0
    RELAYING = 1
    LINGERING = 2
    DONE = 3
    PARKED = 4


# By their own names: looking a member up in its class costs more than all else that is done with it.
DIALING, RELAYING, LINGERING, DONE, PARKED = State

STEPS = {
    DIALING: (RELAYING, PARKED, DONE),
    PARKED: (DIALING, DONE),
    RELAYING: (LINGERING, DONE),
    LINGERING: (DONE,),
    DONE: (),
}
