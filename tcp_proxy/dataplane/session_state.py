"""The states of a session and the steps between them; dataplane.session draws them; and how often a session is looked
at. Values only."""

from enum import IntEnum
from typing import Final

from tcp_proxy.config.model import Timeouts
from tcp_proxy.sansio.reasons import Reason, Side

TICK_LEAST, TICK_MOST = 0.25, 10.0  # seconds between two looks at a session's peers


class State(IntEnum):
    DIALING = 0
    RELAYING = 1
    LINGERING = 2
    DONE = 3
    QUEUED = 4


# By their own names: looking a member up in its class costs more than all else that is done with it.
DIALING: Final[State] = State.DIALING
RELAYING: Final[State] = State.RELAYING
LINGERING: Final[State] = State.LINGERING
DONE: Final[State] = State.DONE
QUEUED: Final[State] = State.QUEUED
# What most sessions end with, and by whom.
ENDED: Final[Reason] = Reason.DONE
CLIENT: Final[Side] = Side.CLIENT
TARGET: Final[Side] = Side.TARGET

STEPS = {
    DIALING: (RELAYING, QUEUED, DONE),
    QUEUED: (DIALING, DONE),
    RELAYING: (LINGERING, DONE),
    LINGERING: (DONE,),
    DONE: (),
}


def tick_of(timeouts: Timeouts) -> float:
    """How often the peers of a session are looked at: often enough for its shortest peer_watch."""
    shortest = min(timeouts.unacked, timeouts.half_closed, timeouts.idle)
    return min(TICK_MOST, max(TICK_LEAST, shortest / 4))
