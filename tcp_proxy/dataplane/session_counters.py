"""What is counted of a session, and when: as it begins, is connected, moves bytes and ends.

Called in the thread of the session's thread, which alone writes the thread's row. A session that moves to another thread
goes on counting in that one's row; what it has counted so far (`counted_up`, `counted_down`) travels with it, so no byte
counts twice (test_a_session_that_moves_counts_every_byte_once).

These lines are paid by every session, so they are plain additions, done where a session is handled anyway.
"""

from bisect import bisect_left
from typing import Any

from tcp_proxy.sansio.reasons import Reason, errno_name
from tcp_proxy.wire.counters import (
    BYTES_DOWN,
    BYTES_UP,
    CONNECT_BUCKETS,
    CONNECT_MICROSECONDS,
    CONNECTS,
    LISTENER_MOVED,
    SESSIONS,
    Row,
)


class ListenerCounters:
    """The listener that a session came by, as it was then: listeners may go to other apps. `slot` is the first of its
    counters."""

    __slots__ = ("address", "port", "slot")

    def __init__(self, address: str, slot: int) -> None:
        self.address = address
        self.slot = slot
        port = address.rpartition(":")[2]
        self.port = int(port) if port.isdigit() else 0  # 0: of a UNIX socket

    def __repr__(self) -> str:
        return f"<ListenerCounters {self.address}>"


def connected(row: Row, block: int, seconds: float) -> None:
    """A session has its target."""
    if seconds:
        row[block + CONNECTS + bisect_left(CONNECT_BUCKETS, seconds)] += 1
        row[block + CONNECT_MICROSECONDS] += int(seconds * 1e6)
    else:  # in one turn of the loop
        row[block + CONNECTS] += 1


def moved(session: Any) -> None:
    """What was delivered since the last time; for sessions that go on."""
    up, down = session.up, session.down
    if up is None or down is None:
        return
    row, block = session.thread.row, session.target.slot
    bytes_up, bytes_down = up.delivered, down.delivered
    row[block + BYTES_UP] += bytes_up - session.counted_up
    row[block + BYTES_DOWN] += bytes_down - session.counted_down
    session.counted_up, session.counted_down = bytes_up, bytes_down


def arrived(session: Any) -> None:
    """It comes from another worker, where its beginning was counted; its target, place and client are counted elsewhere."""
    row = session.thread.row
    row[SESSIONS] += 1
    row[session.listener.slot + LISTENER_MOVED] += 1


def departed(session: Any) -> None:
    """It is another worker's, where its end will be counted. That one has counted it: the gauges never say too few."""
    row = session.thread.row
    row[SESSIONS] -= 1
    row[session.listener.slot + LISTENER_MOVED] -= 1


def was_reset(session: Any, reason: Reason, code: int) -> None:
    """By its target, of an app with `outlier`: before a byte came from it? Not in a relay thread, for whoever has moved so
    much as to be there has met no target that refuses."""
    thread, down = session.thread, session.down
    if reason is Reason.TARGET_RESET and not down.moved and thread.promotes:
        session.app.outlier.was_reset(session.target, f"{errno_name(code)} before a byte", thread.loop.now)
