"""What is counted of a request, and its line in the access log. Beside dataplane.session_counters, which counts sessions.

Called in the loop's thread, whose row is written. These lines are paid by every request.
"""

from bisect import bisect_left
from os import getpid
from random import getrandbits
from socket import SocketType
from typing import Any

from tcp_proxy.dataplane.apps import LiveApp
from tcp_proxy.dataplane.http.owner import ExchangeOwner
from tcp_proxy.dataplane.live_target import LiveTarget
from tcp_proxy.dataplane.record import ID_MOST, LINE_MOST, REASON_INDEX, SIDE_INDEX
from tcp_proxy.dataplane.tls_told import Told, told
from tcp_proxy.runtime.stream_socket import StreamSocket
from tcp_proxy.sansio.address import notes_of, peer_text
from tcp_proxy.sansio.http1.requests import Request
from tcp_proxy.sansio.reasons import Reason, Side
from tcp_proxy.sansio.trace_context import Span, take_up
from tcp_proxy.wire.counters import (
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
from tcp_proxy.wire.records import REQUEST

STATUS_CLASS = (0, 1, 2, 3, 4, 5, 5, 5, 5, 5)  # RFC 9110, 15: 600 and above are as good as 5xx


class CountedRequest:
    """An exchange, as far as it is counted. A contract, and no Protocol, as owner.py is. What has a value here has it at the
    beginning: an attribute of a base that is declared again is there twice where this is compiled."""

    connection: ExchangeOwner
    request: Request
    route_targets: Any  # where it chose its target
    block: int  # where its counters are
    started: float
    status: int
    was_late: bool
    answered_at = -1.0  # not yet
    served_by = ""  # the name of the last target
    bytes_up = 0  # of the bodies, when it is over
    bytes_down = 0
    processes: tuple[int, ...] = ()  # that it was answered by before, where it has moved
    target: LiveTarget | None = None
    tried: tuple[tuple[str, str], ...] = ()
    span: Any = None  # what is traced of it (sansio.trace_context)
    error = ""  # what the client is told where the answer is ours, or would have been told


def ended(exchange: CountedRequest, reason: Reason) -> None:
    """A request has its answer, or a part of it. Seconds count from its whole head to the answer's.

    The target is given back last of all: whoever sees it without sessions sees all that will ever be written there.
    """
    connection = exchange.connection
    thread, block = connection.thread, exchange.block
    row, now = thread.row, thread.loop.now
    seconds = (exchange.answered_at if exchange.answered_at >= 0 else now) - exchange.started
    if connection.app.outlier is not None and exchange.target is not None and not exchange.error and exchange.status:
        late = exchange.was_late or exchange.tried
        connection.app.outlier.answered(exchange.target, exchange.status, 0.0 if late else seconds, now)
    latencies = connection.app.latencies
    if latencies is not None and exchange.answered_at >= 0 and not (exchange.was_late or exchange.tried):
        latencies.add(exchange.served_by, seconds, now)
    row[block + HTTP_STATUS + STATUS_CLASS[exchange.status // 100]] += 1
    row[block + HTTP_LATENCIES + bisect_left(HTTP_BUCKETS, seconds)] += 1
    row[block + HTTP_MICROSECONDS] += int(seconds * 1e6)
    if exchange.bytes_up:
        row[block + BYTES_UP] += exchange.bytes_up
        connection.bytes_up += exchange.bytes_up
    if exchange.bytes_down:
        row[block + BYTES_DOWN] += exchange.bytes_down
        connection.bytes_down += exchange.bytes_down
    connection.target_name = exchange.served_by
    recorder = thread.recorder
    if recorder.keep_request is not None:
        request, values = exchange.request, exchange.request.fields.values
        own_id = values[b"x-request-id"][0][:ID_MOST] if b"x-request-id" in values else b""
        recorder.keep_request((
            _session(connection), connection.requests, connection.app.name, connection.listener.address, connection.address,
            request.line[:LINE_MOST], own_id, exchange.served_by, exchange.tried, exchange.status, exchange.started,
            exchange.answered_at, now, exchange.bytes_up, exchange.bytes_down, REASON_INDEX[reason], exchange.error,
        ))  # fmt: skip
    if recorder.add_request is not None and not (exchange.answered_at == now and _log_usual(exchange, seconds, reason)):
        request, answer = exchange.request, seconds if exchange.answered_at >= 0 else -1.0
        _record(
            connection, request, request.line, exchange.served_by, exchange.status, exchange.bytes_up, exchange.bytes_down,
            answer, now - exchange.started, reason, exchange.error, begin_span(exchange), exchange.tried, exchange.processes,
        )  # fmt: skip
    if type(exchange.route_targets) is not LiveApp and hasattr(exchange.route_targets, "end_stick"):
        exchange.route_targets.end_stick()  # whatever the app is by now
    target = exchange.target
    if target is not None:
        exchange.target = None
        target.give(row)


def _log_usual(exchange: CountedRequest, seconds: float, reason: Reason) -> bool:
    """Its line in the access log, if that is one like most: whether it was. `seconds`: to its answer, which came at once."""
    connection, request = exchange.connection, exchange.request
    recorder = connection.thread.recorder
    usual = recorder.usual
    if usual is None or type(connection.address) is not tuple or type(connection.client) is not SocketType:
        return False
    if exchange.error or exchange.processes or exchange.span is not None:
        return False
    said = request.said
    if said is None:
        said = request.said = usual.said(*_words(request, request.line))
    usual.add(
        connection.client_ip, said, connection.app.name, exchange.served_by, connection.name, connection.requests,
        exchange.status, exchange.bytes_up, exchange.bytes_down, seconds, reason, connection.thread.loop.now + recorder.wall,
    )  # fmt: skip
    return True


def _words(request: Request | None, line: bytes) -> tuple[bytes, bytes, bytes, bytes]:
    """The first line, who it says has sent the client here, what it says that the client is, and the host."""
    values = {} if request is None else request.fields.values
    return (
        line.rstrip(b"\r\n") or b"-",
        b", ".join(values[b"referer"]) if b"referer" in values else b"",
        b", ".join(values[b"user-agent"]) if b"user-agent" in values else b"",
        b"" if request is None else request.host,
    )


def refused(
    connection: ExchangeOwner, request: Request | None, status: int, reason: Reason, error: str, line: bytes
) -> None:
    """A request that never came so far as to choose a target. `line`: its first one, as far as it was read."""
    thread = connection.thread
    row, block = thread.row, connection.app.slot
    row[block + HTTP_STATUS + status // 100] += 1
    row[block + HTTP_LATENCIES] += 1  # it was answered at once
    if thread.recorder.keep_request is not None:
        now = thread.loop.now
        own_id = b"" if request is None else request.fields.values.get(b"x-request-id", [b""])[0]
        thread.recorder.keep_request((
            _session(connection), connection.requests, connection.app.name, connection.listener.address, connection.address,
            line[:LINE_MOST], own_id[:ID_MOST], "", (), status, now, -1.0, now, 0, 0, REASON_INDEX[reason], error,
        ))  # fmt: skip
    if thread.recorder.add_request is not None:
        _record(connection, request, line, "", status, 0, 0, -1.0, 0.0, reason, error, span_of(connection, request), ())


def _session(connection: ExchangeOwner) -> int | str:
    """As in record.FinishedRequest."""
    return connection.number if connection.origin is None else connection.origin.id


def span_of(connection: ExchangeOwner, request: Request | None) -> Span | None:
    """What is traced of it, and what its target is told of that; None: there is no tracing."""
    sample = connection.thread.recorder.sample
    return None if sample is None else take_up({} if request is None else request.fields.values, sample, getrandbits)


def begin_span(exchange: CountedRequest) -> Span | None:
    """The same, when it goes to a target; of a request that goes to several it is one."""
    if exchange.span is None:
        exchange.span = span_of(exchange.connection, exchange.request)
    span: Span | None = exchange.span
    return span


def target_failed(exchange: CountedRequest) -> None:
    """The target did not answer, or not as it should."""
    thread, app = exchange.connection.thread, exchange.connection.app
    thread.row[exchange.block + HTTP_FAILURES] += 1
    if app.outlier is not None and exchange.target is not None:
        app.outlier.unanswered(exchange.target, exchange.error, thread.loop.now)


def session_ended(connection: ExchangeOwner, reason: Reason, side: Side, code: int) -> None:
    """A client has left: counted as a session is, at the app; its requests were counted at their targets."""
    thread, app, listener = connection.thread, connection.app, connection.listener
    row, now, started, block = thread.row, thread.loop.now, connection.started, app.slot
    seconds = now - started
    index = REASON_INDEX[reason]
    row[block + DURATIONS + bisect_left(SESSION_BUCKETS, seconds)] += 1
    row[block + SESSION_MICROSECONDS] += int(seconds * 1e6)
    row[block + ENDS + index] += 1  # as in dataplane.counted
    row[listener.slot + LISTENER_ENDED] += 1
    if app.places is not None:
        app.places.end(connection.number, row)
    if app.client_limits is not None:
        app.client_limits.release(connection.number, row)
    row[SESSIONS] -= 1
    thread.recorder.keep((
        connection.number, app.name, listener.address, connection.address, connection.target_name, (), started, -1.0, now,
        connection.bytes_up, connection.bytes_down, index, SIDE_INDEX[side], code, "",
        _told(connection.client), connection.origin,
    ))  # fmt: skip


def _told(client: StreamSocket) -> Told:
    """Asked for each request: without TLS it costs nothing."""
    return () if type(client) is SocketType else told(client)


def _record(
    connection: ExchangeOwner,
    request: Request | None,
    line: bytes,
    served_by: str,
    status: int,
    bytes_up: int,
    bytes_down: int,
    answer_seconds: float,
    seconds: float,
    reason: Reason,
    error: str,
    span: Span | None,
    tried: tuple[tuple[str, str], ...],
    processes: tuple[int, ...] = (),
) -> None:
    recorder = connection.thread.recorder
    assert recorder.add_request is not None
    first, referer, agent, host = _words(request, line)
    recorder.add_request((
        REQUEST,
        connection.identity.decode(),
        connection.app.name,
        connection.listener.address,
        connection.client_text,
        served_by,
        first,
        host,
        status,
        bytes_up,
        bytes_down,
        answer_seconds,
        seconds,
        referer,
        agent,
        reason.value,
        connection.thread.loop.now + recorder.wall,
        error,
        peer_text(connection.address),
        _told(connection.client),
        notes_of(connection.address),
        span[:3] if span is not None and span.is_sampled else (),
        tried,
        (*processes, getpid()) if processes else (),
    ))  # fmt: skip
