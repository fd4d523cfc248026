"""A session as it comes from another process: may it, and its beginning here.

The worker's loop thread. `refusal` changes nothing; `begin` counts it in, and from its end on it relays: what can be read or
written comes as the first edges of our epoll, as in any hand-over (relay.handover).
"""

from collections.abc import Mapping, Sequence
from socket import SOCK_STREAM, SocketType

from tcp_proxy.dataplane import session_counters
from tcp_proxy.dataplane.apps import LiveApp
from tcp_proxy.dataplane.live_target import LiveTarget
from tcp_proxy.dataplane.moving.departure import semaphore_of
from tcp_proxy.dataplane.new_limits import settle
from tcp_proxy.dataplane.places import Places
from tcp_proxy.dataplane.relay.handover import watch
from tcp_proxy.dataplane.relay.pump import Pump
from tcp_proxy.dataplane.server import Server
from tcp_proxy.dataplane.session import Session
from tcp_proxy.dataplane.session_counters import ListenerCounters
from tcp_proxy.dataplane.sticky.session import StickySession
from tcp_proxy.runtime.stream_socket import StreamSocket
from tcp_proxy.sansio.reasons import Side
from tcp_proxy.wire.moved_session import EXCHANGE, HTTP, TCP, Direction, MovedSession
from tcp_proxy.wire.records import Origin


class Arrivals:
    """An importer.Taker."""

    def __init__(self, server: Server, apps: Mapping[str, LiveApp]) -> None:
        self._server = server
        self._apps = apps

    def __repr__(self) -> str:
        return f"<Arrivals of {self._server!r}>"

    def refusal(self, moved: MovedSession, is_foreign: bool, beside: int) -> str:
        app = self._apps.get(moved.app)
        if app is None:
            return f"there is no app {moved.app}"
        if not self._server.has_room_for(beside + 1):
            return "there is no descriptor for it"
        if is_foreign and self._listener(app, moved, is_foreign) is None:
            return f"app {moved.app} has no listener {moved.listener}"
        if moved.kind != TCP:
            why = self._refusal_of_http(app, moved, is_foreign)
            if why or moved.kind == HTTP:
                return why
        if self._target(app, moved, is_foreign) is None:
            return f"app {moved.app} has no target {moved.target}"
        return _refusal_of_primary(app, moved) or ("" if is_foreign else self._refusal_of_limits(app, moved))

    def _refusal_of_http(self, app: LiveApp, moved: MovedSession, is_foreign: bool) -> str:
        if moved.kind not in {HTTP, EXCHANGE}:
            return f"there are no sessions of the kind {moved.kind}"
        if app.http is None or app.has_rates:
            return f"app {moved.app} is not of mode http, or its clients are slowed down"
        if moved.kind == EXCHANGE:
            from tcp_proxy.dataplane.moving import http_exchange  # noqa: PLC0415  mode http is loaded where there is any

            why = http_exchange.refusal(moved)
            if why:
                return why
        if not is_foreign and semaphore_of(app.places) != moved.app_tokens:
            return "its limits are being changed"
        return ""

    def _refusal_of_limits(self, app: LiveApp, moved: MovedSession) -> str:
        target = self._target(app, moved, is_foreign=False)
        assert target is not None
        if (target.semaphore, semaphore_of(app.places)) != (moved.target_tokens, moved.app_tokens):
            return "its limits are being changed"
        return ""

    def take(self, moved: MovedSession, descriptors: Sequence[int], is_foreign: bool) -> None:
        app = self._apps[moved.app]
        listener = self._listener(app, moved, is_foreign)
        assert listener is not None
        target = self._target(app, moved, is_foreign)
        if moved.kind == TCP:
            assert target is not None
            self._take_session(app, listener, target, moved, descriptors, is_foreign)
        else:
            self._take_client(app, listener, target, moved, descriptors, is_foreign)
        unpaid: set[Places] = {owner for owner in (target, app.places) if owner is not None and owner.unpaid}
        if is_foreign and unpaid:
            settle(self._server.thread.loop, unpaid)

    def _take_client(
        self,
        app: LiveApp,
        listener: ListenerCounters,
        target: LiveTarget | None,
        moved: MovedSession,
        descriptors: Sequence[int],
        is_foreign: bool,
    ) -> None:
        """Of mode http; `target`: of its request."""
        self._server.serve_http()
        from tcp_proxy.dataplane.moving import http_client, http_exchange  # noqa: PLC0415  as above

        context, number = self._server.http_context, self._server.next_number()
        if moved.kind == HTTP:
            http_client.take(context, number, app, listener, moved, descriptors[0], is_foreign)
        else:
            assert target is not None
            http_exchange.take(context, number, app, listener, target, moved, descriptors, is_foreign)

    def _take_session(
        self,
        app: LiveApp,
        listener: ListenerCounters,
        target: LiveTarget,
        moved: MovedSession,
        descriptors: Sequence[int],
        is_foreign: bool,
    ) -> None:
        client = SocketType(moved.client_family, SOCK_STREAM, 0, descriptors[0])
        upstream = SocketType(moved.target_family, SOCK_STREAM, 0, descriptors[1])
        session = self._session(app, listener, client, moved)
        thread = session.thread
        row = thread.row
        session_counters.arrived(session)
        target.arrive(row, has_token=not is_foreign)
        places = app.places
        if places is not None and (moved.has_place or is_foreign):
            places.arrive_as(session.number, row, has_token=not is_foreign)
        if app.client_limits is not None and (moved.is_counted or is_foreign):
            app.client_limits.count_in((session,), thread.loop.now, row)
        up, down = session.connected_before(upstream, target, target.cut, moved.tried)
        session.started, session.connected_at, session.last = moved.started, moved.connected_at, moved.last
        session.origin = Origin(moved.id, moved.processes)
        session.half_closed, session.armed = moved.half_closed, moved.resets_on_close
        session.first_end = Side(moved.first_end) if moved.first_end else None
        session.counted_up, session.counted_down = moved.up.counted, moved.down.counted
        _restore(up, moved.up)
        _restore(down, moved.down)
        try:
            session.arrive(thread, watch)
        except Exception as error:  # noqa: BLE001  it is ours and ends; the others go on
            thread.loop.on_error(session.arrive, error)

    def _session(self, app: LiveApp, listener: ListenerCounters, client: StreamSocket, moved: MovedSession) -> Session:
        server = self._server
        kind = StickySession if app.sticks is not None else Session
        number = server.next_number()
        if app.is_paced:
            client = server.paced(client, app, number, moved.address)
        session = kind(number, server.thread, app, listener, client, moved.address)
        if isinstance(session, StickySession):
            session.arrive_as(moved.stick, moved.target)
        return session

    def _target(self, app: LiveApp, moved: MovedSession, is_foreign: bool) -> LiveTarget | None:
        return app.targets.get(moved.target) if is_foreign else app.target_at(moved.target, moved.target_slot)

    def _listener(self, app: LiveApp, moved: MovedSession, is_foreign: bool) -> ListenerCounters | None:
        if is_foreign:
            return self._server.listener_counters(app, moved.listener)
        return ListenerCounters(moved.listener, moved.listener_slot)


def _refusal_of_primary(app: LiveApp, moved: MovedSession) -> str:
    """Nobody is with a former primary where `on_demotion` is "close"."""
    queue = app.primary_queue
    if queue is None or not queue.closes:
        return ""
    return "" if (queue.epoch, queue.primary) == (moved.epoch, moved.target) else f"{moved.target} is not primary any more"


def _restore(pump: Pump, told: Direction) -> None:
    """Where the direction stood."""
    pump.moved, pump.pending, pump.armed = told.moved, told.unsent, True
    pump.ended, pump.done, pump.blocked, pump.failed = told.ended, told.done, told.blocked, told.failed
