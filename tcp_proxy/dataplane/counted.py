"""What is counted and gets a record when it is over: a session, or a client that never became one.

Owned by its thread, which alone writes the thread's row. Its end happens once, by `ended`.
"""

from bisect import bisect_left
from collections.abc import Sequence
from socket import SocketType
from typing import Any

from tcp_proxy.dataplane.apps import LiveApp
from tcp_proxy.dataplane.live_target import LiveTarget
from tcp_proxy.dataplane.record import REASON_INDEX, SIDE_INDEX
from tcp_proxy.dataplane.relay.session_thread import SessionThread
from tcp_proxy.dataplane.session_counters import ListenerCounters
from tcp_proxy.dataplane.tls_told import told
from tcp_proxy.runtime.stream_socket import StreamSocket
from tcp_proxy.sansio.reasons import Reason, Side
from tcp_proxy.wire.counters import (
    BYTES_DOWN,
    BYTES_UP,
    DURATIONS,
    ENDS,
    LISTENER_ENDED,
    SESSION_BUCKETS,
    SESSION_MICROSECONDS,
    SESSIONS,
)
from tcp_proxy.wire.records import Origin


class Counted:
    """What has a beginning, an end and a record: a session, or a client that never became one (edge.arrival). `number` is
    unique in its worker; `address` is the client's sockaddr."""

    __slots__ = (
        "address", "app", "client", "connected_at", "counted_down", "counted_up", "listener", "number", "origin", "started",
        "target", "thread", "tried",
    )  # fmt: skip

    def __init__(
        self, number: int, thread: SessionThread, app: LiveApp, listener: ListenerCounters, client: StreamSocket,
        address: Any,
    ) -> None:  # fmt: skip
        self.number = number
        self.thread = thread
        self.app = app
        self.listener = listener
        self.client, self.address = client, address
        self.started = thread.loop.now
        self.connected_at = -1.0
        self.target: LiveTarget | None = None
        self.tried: Sequence[tuple[str, str]] = ()
        self.counted_up = self.counted_down = 0  # bytes that stand in the counters already
        self.origin: Origin | None = None  # of a session that has come from another process


def ended(
    session: Counted, bytes_up: int, bytes_down: int, reason: Reason, side: Side, code: int, error: str = ""
) -> None:
    """A session is over: count it out, and keep its record. `error`: what was wrong, in words.

    The gauges come last: whoever sees a block without sessions sees all that will ever be written there. LISTENER_ENDED
    follows ENDS as soon as can be: a worker that is killed in between has this session twice, in `worker_died` too.
    """
    thread, app, listener, target, tried = session.thread, session.app, session.listener, session.target, session.tried
    client = session.client
    row, now, started = thread.row, thread.loop.now, session.started
    if target is None:
        block, name = app.slot, ""
    else:
        block, name = target.slot, target.name
        row[block + BYTES_UP] += bytes_up - session.counted_up
        row[block + BYTES_DOWN] += bytes_down - session.counted_down
    seconds = now - started
    row[block + DURATIONS + bisect_left(SESSION_BUCKETS, seconds)] += 1
    row[block + SESSION_MICROSECONDS] += int(seconds * 1e6)
    index = REASON_INDEX[reason]
    row[block + ENDS + index] += 1
    if target is not None:
        target.give(row)
    row[listener.slot + LISTENER_ENDED] += 1
    if app.places is not None:
        app.places.end(session.number, row)
    if app.client_limits is not None:
        app.client_limits.release(session.number, row)
    row[SESSIONS] -= 1
    thread.recorder.add((
        session.number, app.name, listener.address, session.address, name, tuple(tried) if tried else (),
        started, session.connected_at, now, bytes_up, bytes_down, index, SIDE_INDEX[side], code, error,
        () if type(client) is SocketType else told(client), session.origin,
    ))  # fmt: skip
