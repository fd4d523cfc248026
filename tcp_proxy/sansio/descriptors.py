"""What a limit on descriptors allows a worker: how many sessions, and when accepting pauses and goes on. Pure.

`room` is what is left of the limit after everything that stays: listeners, semaphores, channels, logs.

Always true:
- accepting goes on at a mark that is reached when every session has ended, however small the room;
- the reserve is a quarter of the room at most, so that a small room is not all reserve;
- MIN_ROOM is the smallest room in which MIN_SESSIONS sessions can be served at once.
"""

from typing import NamedTuple

PER_SESSION = 2  # descriptors
RESERVE = 64  # descriptors for pipes, reloads and logs where the limit is not small
MIN_SESSIONS = 16  # at once, in a worker: with less it is refused to start, or to reload
MIN_ROOM = 42


class Marks(NamedTuple):
    pause_at: int  # free descriptors: fewer, and accepting pauses
    resume_at: int  # free descriptors: so many, and it goes on
    sessions: int  # at once


def marks(room: int) -> Marks:
    room = max(0, room)
    pause_at = min(RESERVE, room // 4)
    return Marks(pause_at, 2 * pause_at, (room - pause_at) // PER_SESSION)
