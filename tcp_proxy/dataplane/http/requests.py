"""What is counted of a request, and its line in the access log. Beside dataplane.tally, which counts sessions.

Called in the loop's thread, whose row is written. These lines are paid by every request.
"""

from bisect import bisect_left
from typing import Any

from tcp_proxy.counters import (
    BYTES_DOWN,
    BYTES_UP,
    DURATIONS,
    ENDS,
    HTTP_BUCKETS,
    HTTP_FAILURES,
    HTTP_LATENCIES,
    HTTP_MICROSECONDS,
    HTTP_STATUS,
    LISTENER_ENDED,
    SESSION_BUCKETS,
    SESSION_MICROSECONDS,
    SESSIONS,
)
from tcp_proxy.dataplane.record import REASON_INDEX, SIDE_INDEX
from tcp_proxy.records import REQUEST
from tcp_proxy.sansio.http1.requests import Request
from tcp_proxy.sansio.reasons import Reason, Side


def ended(exchange: Any, reason: Reason) -> None:
    """A request has its answer, or a part of it. Seconds count from its whole head to the answer's.

    The target is given back last of all: whoever sees it without sessions sees all that will ever be written there.
    """
    session = exchange.session
    home, block = session.home, exchange.block
    row, now = home.row, home.loop.now
    seconds = (exchange.answered_at if exchange.answered_at >= 0 else now) - exchange.started
    row[block + HTTP_STATUS + exchange.status // 100] += 1
    row[block + HTTP_LATENCIES + bisect_left(HTTP_BUCKETS, seconds)] += 1
    row[block + HTTP_MICROSECONDS] += int(seconds * 1e6)
    if exchange.bytes_up:
        row[block + BYTES_UP] += exchange.bytes_up
        session.bytes_up += exchange.bytes_up
    if exchange.bytes_down:
        row[block + BYTES_DOWN] += exchange.bytes_down
        session.bytes_down += exchange.bytes_down
    session.target_name = exchange.served_by
    if home.recorder.add_request is not None:
        _record(session, exchange.request, exchange, reason)
    target = exchange.target
    if target is not None:
        exchange.target = None
        target.give(row)


def refused(session: Any, request: Request | None, status: int, reason: Reason) -> None:
    """A request that never came so far as to choose a target."""
    home = session.home
    row, block = home.row, session.app.slot
    row[block + HTTP_STATUS + status // 100] += 1
    row[block + HTTP_LATENCIES] += 1  # it was answered at once
    if home.recorder.add_request is not None:
        _record(session, request, None, reason, status)


def target_failed(exchange: Any) -> None:
    """The target did not answer, or not as it should."""
    exchange.session.home.row[exchange.block + HTTP_FAILURES] += 1


def session_ended(session: Any, reason: Reason, side: Side, code: int) -> None:
    """A client has left: as dataplane.tally counts a session, at the app; its requests were counted at their targets."""
    home, app, listener = session.home, session.app, session.listener
    row, now, started, block = home.row, home.loop.now, session.started, app.slot
    row[SESSIONS] -= 1
    row[listener.slot + LISTENER_ENDED] += 1
    seconds = now - started
    index = REASON_INDEX[reason]
    row[block + ENDS + index] += 1
    row[block + DURATIONS + bisect_left(SESSION_BUCKETS, seconds)] += 1
    row[block + SESSION_MICROSECONDS] += int(seconds * 1e6)
    home.recorder.keep((
        session.number, app.name, listener.address, session.address, session.target_name, (), started, -1.0, now,
        session.bytes_up, session.bytes_down, index, SIDE_INDEX[side], code,
    ))  # fmt: skip


def _record(session: Any, request: Request | None, exchange: Any, reason: Reason, status: int = 0) -> None:
    recorder, now = session.home.recorder, session.home.loop.now
    line = b"-" if request is None else request.line.rstrip()
    values = {} if request is None else request.fields.values
    recorder.add_request((
        REQUEST,
        f"{recorder.incarnation}-{session.number}-{session.requests}",
        session.app.name,
        session.listener.address,
        session.client_text,
        exchange.served_by if exchange is not None else "",
        line.decode("latin-1"),
        b"" if request is None else request.host,
        exchange.status if exchange is not None else status,
        exchange.bytes_up if exchange is not None else 0,
        exchange.bytes_down if exchange is not None else 0,
        exchange.answered_at - exchange.started if exchange is not None and exchange.answered_at >= 0 else -1.0,
        now - exchange.started if exchange is not None else 0.0,
        b", ".join(values.get(b"referer", ())),
        b", ".join(values.get(b"user-agent", ())),
        reason.value,
        now + recorder.wall,
    ))  # fmt: skip
