"""A client of mode http as it leaves for another worker, between two requests, and as it comes from one.

The loop's thread, in which all of mode http lives; loaded with the first such client. What it sends meanwhile waits in its
socket. While it is held no loop knows its socket. Connections to targets stay where they are: they are the worker's.
"""

from socket import SOCK_STREAM, SocketType
from typing import Any

from tcp_proxy.dataplane import session_counters
from tcp_proxy.dataplane.apps import LiveApp
from tcp_proxy.dataplane.http.connection import HttpConnection
from tcp_proxy.dataplane.session_counters import ListenerCounters
from tcp_proxy.runtime.loop import EDGE
from tcp_proxy.sansio.http1.states import END, NEXT, READING
from tcp_proxy.sansio.reasons import Side
from tcp_proxy.wire.moved_session import HTTP, MovedSession
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
        connection, told = self.owner, self.told
        app, row, loop = connection.app, connection.thread.row, connection.thread.loop
        if app.places is not None:
            app.places.depart_as(connection.number, row, told.app_tokens)
        if app.client_limits is not None:
            app.client_limits.release(connection.number, row)
        session_counters.departed(connection)
        connection.upstreams.release()
        connection.state = NEXT[connection.state][END]
        loop.close_after_batch(connection.client)


def is_movable(connection: Any) -> bool:
    """Whether it is between two requests, in clear and at its own pace, with no connection to a target that it must use
    again, for it has logged in there."""
    return (
        isinstance(connection, HttpConnection)
        and connection.state is READING
        and not (connection.reader.input or connection.reader.is_ended or connection.queued or connection.advancing)
        and not (connection.writer.blocked or connection.closing)
        and type(connection.client) is SocketType
        and not any(upstream.binds for upstream in connection.upstreams.resting)
    )


def hold(connection: Any, foreign: bool, began_here: tuple[str, float, int]) -> HttpDeparture | None:
    """None: it has a request under way, or cannot move."""
    thread, app = connection.thread, connection.app
    places, limits, origin = app.places, app.client_limits, connection.origin
    if not is_movable(connection) or (places is not None and places.unpaid):
        return None
    thread.loop.unwatch(connection.client.fileno())
    thread.members.discard(connection)
    incarnation, wall, pid = began_here
    told = MovedSession(
        kind=HTTP,
        id=f"{incarnation}-{connection.number}" if origin is None else origin.id,
        processes=(pid,) if origin is None else (*origin.processes, pid),
        app=app.name,
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
        listener_slot=connection.listener.slot,
        app_tokens=-1 if foreign or places is None else places.semaphore,
        has_place=places is not None and connection.number in places.holders,
        is_counted=limits is not None and connection.number in limits.holders,
    )
    return HttpDeparture(connection, told)


def take(
    shared_context: Any, number: int, app: LiveApp, listener: ListenerCounters, moved: MovedSession, fd: int, foreign: bool
) -> None:
    """It is ours. `shared_context`: the worker's HttpContext. It has begun before, so no fault on purpose is met."""
    client = SocketType(moved.client_family, SOCK_STREAM, 0, fd)
    connection = HttpConnection(number, shared_context.shared, app, listener, client, moved.address)
    connection.started, connection.requests = moved.started, moved.requests
    connection.bytes_up, connection.bytes_down = moved.bytes_up, moved.bytes_down
    connection.target_name, connection.timers.last = moved.last_target, moved.last
    connection.origin, connection.name = Origin(moved.id, moved.processes), f"{moved.id}-".encode()
    row = connection.thread.row
    session_counters.arrived(connection)
    if app.places is not None and (moved.has_place or foreign):
        app.places.arrive_as(number, row, has_token=not foreign)
    if app.client_limits is not None and (moved.is_counted or foreign):
        app.client_limits.count_in((connection,), connection.thread.loop.now, row)
    try:
        _begin(connection, moved)
    except Exception as error:  # noqa: BLE001  it is ours and ends; the others go on
        connection.thread.loop.on_error(connection.advance, error)


def _begin(connection: HttpConnection, told: MovedSession) -> None:
    """What it has sent meanwhile no event may tell of. The time for its next request goes on."""
    thread = connection.thread
    thread.members.add(connection)
    thread.loop.watch(connection.client.fileno(), EDGE, connection.ready)
    connection.reader.unread = True
    connection.advance()
    if is_movable(connection) and told.requests == connection.requests:
        connection.timers.set_deadline(told.deadline)
    if thread.closing is not None:
        connection.kill(thread.closing, Side.PROXY)
