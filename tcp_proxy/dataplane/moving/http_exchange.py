"""A client of mode http with a request under way, as it leaves for another worker and as it comes from one: both sockets,
and where request and answer stand between two reads.

The loop's thread. Beside http_client.py, whose the client is; here is what its exchange has: the target with its place and
its connection, two bodies, what waits for each socket. Nothing of the exchange is used again where it goes on, be it there
or, refused, here: another one is made of what was told, so that calls of the old one that are queued find it over.

    EXCHANGING ──hold──> HELD ──leave──> another process's
       ^                   └──resume──> EXCHANGING, by another Exchange
       └─ arrive (there) ─┘

It stays, and is finished where it is, while it is being connected or waits for a place, with an upgrade that is not whole,
with TLS or a pace of its own, with a login that belongs to its connections, and as long as the answer may have to be marked
with a cookie. The connection to its target serves no other request after it.
"""

from collections.abc import Sequence
from socket import SOCK_STREAM, SocketType
from typing import Any

from tcp_proxy.dataplane.apps import LiveApp
from tcp_proxy.dataplane.http.body import Body
from tcp_proxy.dataplane.http.connection import HttpConnection
from tcp_proxy.dataplane.http.exchange import Exchange
from tcp_proxy.dataplane.http.repeats import Repeats
from tcp_proxy.dataplane.http.socket_writer import SocketWriter
from tcp_proxy.dataplane.http.upstreams import Upstream
from tcp_proxy.dataplane.live_target import LiveTarget
from tcp_proxy.dataplane.moving import http_client
from tcp_proxy.dataplane.session_counters import ListenerCounters
from tcp_proxy.runtime.loop import EDGE, QUIET_EDGE
from tcp_proxy.runtime.stream_socket import StreamSocket
from tcp_proxy.sansio.http1.fields import Fields
from tcp_proxy.sansio.http1.requests import AS_MUCH_AS_CAME, Request, head_of, read_request
from tcp_proxy.sansio.http1.responses import Response
from tcp_proxy.sansio.http1.states import EXCHANGING, NEXT, SEND
from tcp_proxy.sansio.reasons import Side
from tcp_proxy.sansio.trace_context import Span
from tcp_proxy.wire.moved_exchange import MovedExchange
from tcp_proxy.wire.moved_session import EXCHANGE, Direction, MovedSession

_LAST = Fields(b"Connection: close\r\n")  # of an answer of which all that matters is that it has come


class ExchangeDeparture:
    """One that is held, and what was told of it; an exporter.Leaving."""

    __slots__ = ("_exchange", "_upstream", "owner", "told")

    def __init__(self, connection: HttpConnection, exchange: Exchange, upstream: Upstream, told: MovedSession) -> None:
        self.owner = connection
        self.told = told
        self._exchange = exchange
        self._upstream = upstream

    def __repr__(self) -> str:
        return f"<ExchangeDeparture of {self.owner!r}>"

    @property
    def descriptors(self) -> list[int]:
        return [self.owner.client.fileno(), self._upstream.sock.fileno()]

    def resume(self) -> None:
        connection, old, upstream = self.owner, self._exchange, self._upstream
        assert old.target is not None
        exchange = Exchange(connection, old.request, old.route_targets)
        exchange.serve(old.target, old.cut)
        _tell(exchange, upstream, self.told)
        exchange.response, exchange.span, exchange.processes = old.response, old.span, old.processes
        _begin(exchange, upstream, self.told)

    def leave(self) -> None:
        connection, exchange, upstream = self.owner, self._exchange, self._upstream
        target, route_targets = exchange.target, exchange.route_targets
        assert target is not None
        connection.exchange = None
        http_client.departed(connection, self.told)
        target.depart(connection.thread.row, self.told.target_tokens)
        connection.shared.upstreams.forget(upstream)
        connection.thread.loop.close_after_batch(upstream.sock)
        if hasattr(route_targets, "end_stick"):
            route_targets.end_stick()


def is_movable(connection: Any) -> bool:
    if not http_client.may_leave(connection) or connection.state is not EXCHANGING or connection.advancing:
        return False
    exchange = connection.exchange
    target, upstream, response = exchange.target, exchange.upstream, exchange.response
    if target is None or upstream is None or exchange.switched is not None:
        return False
    logins = (exchange.request.fields, response.fields) if response is not None else (exchange.request.fields,)
    return (
        type(upstream.sock) is SocketType
        and target.cut == exchange.cut
        and not target.unpaid
        and not upstream.binds
        and not any(fields.has_login for fields in logins)
        and not (response is None and connection.http_app.cookies is not None)
    )


def hold(connection: Any, foreign: bool, began_here: tuple[str, float, int]) -> ExchangeDeparture | None:
    """None: it cannot move now."""
    if not is_movable(connection):
        return None
    exchange, shared = connection.exchange, connection.shared
    upstream = exchange.upstream
    connection.writer.unpipe(shared.pipes)
    upstream.writer.unpipe(shared.pipes)
    told = _told(connection, exchange, upstream, foreign, began_here)
    http_client.let_go(connection)
    connection.thread.loop.unwatch(upstream.sock.fileno())
    for body in (exchange.up, exchange.down):
        if body is not None:
            body.stop()
    exchange.upstream = upstream.owner = None
    exchange.up = exchange.down = None  # no cycle is left for the collector
    return ExchangeDeparture(connection, exchange, upstream, told)


def _told(
    connection: HttpConnection, exchange: Exchange, upstream: Upstream, foreign: bool, began_here: tuple[str, float, int]
) -> MovedSession:
    target, queue, up, down, span = exchange.target, connection.app.primary_queue, exchange.up, exchange.down, exchange.span
    assert target is not None
    moved = MovedExchange(
        request=head_of(exchange.request),
        started=exchange.started,
        processes=(*exchange.processes, began_here[2]),
        status=exchange.status,
        answered_at=exchange.answered_at,
        keep=exchange.keep,
        upgrade=exchange.upgrade,
        span=() if span is None else (*span[:4], span.line.decode("latin-1"), [name.decode() for name in span.dropped]),
        repeats=int(exchange.repeats),
        is_used=upstream.is_used,
        was_late=exchange.was_late,
        has_interim=exchange.has_interim,
        up_failed=exchange.up_failed,
        ending=exchange.ending,
        reset_code=exchange.reset_code,
        bytes_down=exchange.bytes_down,
        up=up.told() if up is not None else None,
        down=down.told() if down is not None else None,
    )
    ahead_up = connection.reader.input if up is None or up.done else up.rest
    ahead_down = upstream.reader.heard if down is None else down.rest
    return http_client.told_of(connection, foreign, began_here)._replace(
        kind=EXCHANGE,
        target=target.name,
        target_family=int(upstream.sock.family),
        tried=exchange.tried,
        epoch=queue.epoch if queue is not None and queue.closes else 0,
        up=_direction(upstream.writer, ahead_up),
        down=_direction(connection.writer, ahead_down),
        target_slot=target.slot,
        target_tokens=-1 if foreign else target.semaphore,
        exchange=moved,
    )


def _direction(writer: SocketWriter, ahead: bytes) -> Direction:
    return Direction(blocked=writer.blocked, unsent=bytes(writer.pending), ahead=ahead)


def refusal(moved: MovedSession) -> str:
    """Why it cannot be taken, whatever the app; "": it can."""
    try:
        request_of(moved)
        Repeats(moved.exchange.repeats if moved.exchange is not None else -1)
    except ValueError as error:
        return f"its request is none that this program knows: {error}"
    return ""


def request_of(moved: MovedSession) -> Request:
    """Raises ValueError."""
    found = read_request(moved.exchange.request, 0, AS_MUCH_AS_CAME) if moved.exchange is not None else None
    if found is None:
        raise ValueError("it is not whole")
    return found[0]


def take(
    shared_context: Any,
    number: int,
    app: LiveApp,
    listener: ListenerCounters,
    target: LiveTarget,
    moved: MovedSession,
    descriptors: Sequence[int],
    foreign: bool,
) -> None:
    """It is ours."""
    connection = http_client.arrived(shared_context, number, app, listener, moved, descriptors[0], foreign)
    target.arrive(connection.thread.row, has_token=not foreign)
    sock = SocketType(moved.target_family, SOCK_STREAM, 0, descriptors[1])
    upstream = connection.shared.upstreams.adopt(sock, target, listener.port)
    upstream.has_moved = True
    request = request_of(moved)
    route_targets = connection.http_app.route_targets(request) or app
    if hasattr(route_targets, "arrive_at"):
        route_targets.arrive_at(target)
    exchange = Exchange(connection, request, route_targets)
    exchange.serve(target, target.cut)
    connection.state = NEXT[connection.state][SEND]
    try:
        _tell(exchange, upstream, moved)
        _begin(exchange, upstream, moved)
    except Exception as error:  # noqa: BLE001  it is ours and ends; the others go on
        connection.thread.loop.on_error(connection.advance, error)


def _tell(exchange: Exchange, upstream: Upstream, told: MovedSession) -> None:
    """Where it stands, but for its bodies."""
    moved = told.exchange
    assert moved is not None
    exchange.started, exchange.status, exchange.answered_at = moved.started, moved.status, moved.answered_at
    exchange.keep, exchange.upgrade, exchange.tried = moved.keep, moved.upgrade, told.tried
    exchange.repeats, exchange.was_late = Repeats(moved.repeats), moved.was_late
    exchange.has_interim, exchange.up_failed = moved.has_interim, moved.up_failed
    exchange.ending, exchange.reset_code, exchange.bytes_down = moved.ending, moved.reset_code, moved.bytes_down
    upstream.is_used, exchange.processes = moved.is_used, moved.processes
    if moved.span:
        trace, span, parent, is_sampled, line, dropped = moved.span
        exchange.span = Span(trace, span, parent, is_sampled, line.encode("latin-1"), frozenset(map(str.encode, dropped)))
    if moved.down is not None:
        exchange.response = Response(moved.status, 1, _LAST, b"", bodiless=True)


def _begin(exchange: Exchange, upstream: Upstream, told: MovedSession) -> None:
    """From here on it goes on. What has come meanwhile no event may tell of."""
    connection, moved = exchange.connection, told.exchange
    assert isinstance(connection, HttpConnection)
    assert moved is not None
    thread, loop, client = connection.thread, connection.thread.loop, connection.client
    connection.exchange, exchange.upstream, upstream.owner = exchange, upstream, exchange
    connection.writer = _writer(exchange, client, told.down)
    upstream.writer = _writer(exchange, upstream.sock, told.up)
    connection.reader.unread, connection.head_begun = True, False
    if moved.up is not None and not moved.up.done:
        connection.reader.input = b""
        exchange.up = Body.carried_on(loop, exchange, client, upstream.writer, moved.up, told.up.ahead, is_answer=False)
    elif moved.up is not None:
        exchange.up = Body.carried_on(loop, exchange, client, upstream.writer, moved.up, b"", is_answer=False)
    if moved.down is not None:
        ahead = told.down.ahead
        exchange.down = Body.carried_on(loop, exchange, upstream.sock, connection.writer, moved.down, ahead, is_answer=True)
    else:
        upstream.reader.heard, upstream.reader.seen = told.down.ahead, 0
    thread.members.add(connection)
    loop.watch(client.fileno(), _events_for(connection.writer), connection.ready)
    loop.watch(upstream.sock.fileno(), _events_for(upstream.writer), upstream.ready)
    connection.timers.wait_for_answer(connection.http_app.timeouts.response)
    connection.timers.last = told.last
    due = connection.due()
    if due < thread.next_look:
        thread.look_at(due)
    if thread.closing is not None:
        connection.kill(thread.closing, Side.PROXY)
    else:
        _go_on(exchange, upstream)


def _writer(exchange: Exchange, sock: StreamSocket, told: Direction) -> SocketWriter:
    is_blocked = bool(told.unsent) or told.blocked
    writer = SocketWriter(exchange.connection.thread.loop, sock, armed=is_blocked)
    writer.pending = told.unsent
    if is_blocked:
        writer.wait()
    return writer


def _events_for(writer: SocketWriter) -> int:
    """Told at once that there is room, one that waits for its answer would look as if something had come."""
    return EDGE if writer.blocked else QUIET_EDGE


def _go_on(exchange: Exchange, upstream: Upstream) -> None:
    """As after an event on each socket; either may end it."""
    connection, up = exchange.connection, exchange.up
    if up is not None and not (up.done or up.writer.blocked):
        up.go_on()
    if exchange.upstream is not upstream or connection.writer.blocked:
        return
    if exchange.response is None:
        exchange.hear_more(0)
    elif exchange.down is not None and not exchange.down.done:
        exchange.down.go_on()
