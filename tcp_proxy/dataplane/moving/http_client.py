"""A client of mode http as it leaves for another worker, between two requests, and as it comes from one. Of the head of the
next one a part may have come; one whose request is under way is http_exchange.py's.

The loop's thread, in which all of mode http lives; loaded with the first such client. What it sends meanwhile waits in its
socket. While it is held no loop knows its socket. Connections to targets stay where they are: they are the worker's.
"""

from socket import SOCK_STREAM, SocketType
from typing import Any

from tcp_proxy.dataplane import session_counters
from tcp_proxy.dataplane.apps import LiveApp
from tcp_proxy.dataplane.http.connection import HttpConnection
from tcp_proxy.dataplane.moving.departure import semaphore_of
from tcp_proxy.dataplane.session_counters import ListenerCounters
from tcp_proxy.runtime.loop import EDGE
from tcp_proxy.sansio.http1.states import END, NEXT, READING
from tcp_proxy.sansio.reasons import Side
from tcp_proxy.wire.moved_session import HTTP, Direction, MovedSession
from tcp_proxy.wire.records import Origin


class HttpDeparture:
    """One that is held, and what was told of it; an exporter.Leaving."""

    __slots__ = ("owner", "told")

    def __init__(self, connection: HttpConnection, told: MovedSession) -> None:
        self.owner = connection
        self.told = told

    def __repr__(self) -> str:
        return f"<HttpDeparture of {self.owner!r}>"

    @property
    def descriptors(self) -> list[int]:
        return [self.owner.client.fileno()]

    def resume(self) -> None:
        _begin(self.owner, self.told)

    def leave(self) -> None:
        departed(self.owner, self.told)


def departed(connection: HttpConnection, told: MovedSession) -> None:
    """It is another process's by now, which has counted it."""
    app, row, loop = connection.app, connection.thread.row, connection.thread.loop
    if app.places is not None:
        app.places.depart_as(connection.number, row, told.app_tokens)
    if app.client_limits is not None:
        app.client_limits.release(connection.number, row)
    session_counters.departed(connection)
    connection.upstreams.release()
    del connection.plain_way.owner
    connection.state = NEXT[connection.state][END]
    loop.close_after_batch(connection.client)


def may_leave(connection: Any) -> bool:
    """Whether it is of mode http, in clear and at its own pace, with no connection to a target that it must use again, for
    it has logged in there; and what it has in limits can be taken along."""
    return (
        isinstance(connection, HttpConnection)
        and type(connection.client) is SocketType
        and not any(upstream.binds for upstream in connection.upstreams.resting)
        and not (connection.app.places is not None and connection.app.places.unpaid)
    )


def is_movable(connection: Any) -> bool:
    """Whether it is between two requests."""
    return (
        may_leave(connection)
        and connection.state is READING
        and not (connection.reader.is_ended or connection.queued or connection.advancing)
        and not (connection.writer.blocked or connection.closing)
    )


def hold(connection: Any, foreign: bool, began_here: tuple[str, float, int]) -> HttpDeparture | None:
    """None: it has a request under way, or cannot move."""
    if not is_movable(connection):
        return None
    let_go(connection)
    return HttpDeparture(connection, told_of(connection, foreign, began_here))


def let_go(connection: HttpConnection) -> None:
    """No loop knows it any more."""
    connection.thread.loop.unwatch(connection.client.fileno())
    connection.thread.members.discard(connection)


def told_of(connection: HttpConnection, foreign: bool, began_here: tuple[str, float, int]) -> MovedSession:
    """As between two requests."""
    places, limits, origin = connection.app.places, connection.app.client_limits, connection.origin
    incarnation, wall, pid = began_here
    return MovedSession(
        kind=HTTP,
        id=f"{incarnation}-{connection.number}" if origin is None else origin.id,
        processes=(pid,) if origin is None else (*origin.processes, pid),
        app=connection.app.name,
        listener=connection.listener.address,
        address=connection.address,
        client_family=int(connection.client.family),
        started=connection.started,
        started_at=connection.started + wall,
        last=connection.timers.last,
        requests=connection.requests,
        bytes_up=connection.bytes_up,
        bytes_down=connection.bytes_down,
        last_target=connection.target_name,
        deadline=connection.timers.deadline,
        up=Direction(ahead=connection.reader.input),
        listener_slot=connection.listener.slot,
        app_tokens=-1 if foreign else semaphore_of(places),
        has_place=places is not None and connection.number in places.holders,
        is_counted=limits is not None and connection.number in limits.holders,
    )


def take(
    shared_context: Any, number: int, app: LiveApp, listener: ListenerCounters, moved: MovedSession, fd: int, foreign: bool
) -> None:
    """It is ours. `shared_context`: the worker's HttpContext."""
    connection = arrived(shared_context, number, app, listener, moved, fd, foreign)
    try:
        _begin(connection, moved)
    except Exception as error:  # noqa: BLE001  it is ours and ends; the others go on
        connection.thread.loop.on_error(connection.advance, error)


def arrived(
    shared_context: Any, number: int, app: LiveApp, listener: ListenerCounters, moved: MovedSession, fd: int, foreign: bool
) -> HttpConnection:
    """Counted in, and watched by nobody. It has begun before, so no fault on purpose is met."""
    client = SocketType(moved.client_family, SOCK_STREAM, 0, fd)
    connection = HttpConnection(number, shared_context.shared, app, listener, client, moved.address)
    connection.started, connection.requests = moved.started, moved.requests
    connection.bytes_up, connection.bytes_down = moved.bytes_up, moved.bytes_down
    connection.target_name, connection.timers.last = moved.last_target, moved.last
    connection.origin, connection.name = Origin(moved.id, moved.processes), f"{moved.id}-"
    connection.reader.input, connection.head_begun = moved.up.ahead, bool(moved.up.ahead)
    row = connection.thread.row
    session_counters.arrived(connection)
    if app.places is not None and (moved.has_place or foreign):
        app.places.arrive_as(number, row, has_token=not foreign)
    if app.client_limits is not None and (moved.is_counted or foreign):
        app.client_limits.count_in((connection,), connection.thread.loop.now, row)
    return connection


def _begin(connection: HttpConnection, told: MovedSession) -> None:
    """What it has sent meanwhile no event may tell of. The time for its next request goes on."""
    thread = connection.thread
    thread.members.add(connection)
    thread.loop.watch(connection.client.fileno(), EDGE, connection.ready)
    connection.reader.unread = True
    connection.advance()
    is_waiting = is_movable(connection) and told.requests == connection.requests
    if is_waiting and bool(connection.reader.input) is bool(told.up.ahead):
        connection.timers.set_deadline(told.deadline)
    if thread.closing is not None:
        connection.kill(thread.closing, Side.PROXY)
