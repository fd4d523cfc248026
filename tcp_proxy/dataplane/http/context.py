"""The clients of all apps in http mode of a worker: made here, let go at its end, or when descriptors are short.

Owned by the loop's thread; made with the first such app (dataplane.server imports it then, and not before).
"""

from collections.abc import Callable
from functools import partial
from heapq import nsmallest
from typing import Any, cast

from tcp_proxy.dataplane.apps import LiveApp
from tcp_proxy.dataplane.http.connection import HttpConnection
from tcp_proxy.dataplane.http.shared import HttpShared
from tcp_proxy.dataplane.relay.session_thread import SessionThread
from tcp_proxy.dataplane.session_counters import ListenerCounters
from tcp_proxy.runtime.stream_socket import StreamSocket
from tcp_proxy.sansio.address import noted
from tcp_proxy.sansio.reasons import Reason, Side
from tcp_proxy.wire.counters import FAULTED

LET_GO, ROOM_EVERY = 32, 1.0  # idle clients at a time, and seconds in between, when descriptors are short


class HttpContext:
    def __init__(self, thread: SessionThread, may_open_pipe: Callable[[], bool]) -> None:
        self.thread = thread
        self.shared = HttpShared(thread, may_open_pipe)
        self._room_at = float("-inf")

    def __repr__(self) -> str:
        return f"<HttpContext {self.shared!r}>"

    def session(
        self, number: int, app: LiveApp, listener: ListenerCounters, client: StreamSocket, address: Any
    ) -> HttpConnection:
        if app.is_paced:
            return self._paced(number, app, listener, client, address)
        return HttpConnection(number, self.shared, app, listener, client, address)

    def _paced(
        self, number: int, app: LiveApp, listener: ListenerCounters, client: StreamSocket, address: Any
    ) -> HttpConnection:
        """Slowed down, or meets faults on purpose: its socket is used as any other."""
        wrapped: list[Any] = []  # the outermost last
        if app.has_rates:
            from tcp_proxy.dataplane.http.paced_client import PacedClient  # noqa: PLC0415  for the first that needs it

            wrapped.append(PacedClient(self.thread.loop, client, number, app))
        faults = app.faults.find(number, address) if app.faults is not None else None
        if faults:
            from tcp_proxy.dataplane.faults import note_of  # noqa: PLC0415  for the first that meets one
            from tcp_proxy.dataplane.http.faulty_client import FaultyClient  # noqa: PLC0415  for the first that meets one

            wrapped.append(FaultyClient(self.thread.loop, wrapped[-1] if wrapped else client, faults, number))
            address = noted(address, note_of(faults))
            self.thread.row[app.slot + FAULTED] += 1
        sock = cast("StreamSocket", wrapped[-1]) if wrapped else client
        connection = HttpConnection(number, self.shared, app, listener, sock, address)
        for each in wrapped:
            each.ready = connection.ready
        if faults:
            wrapped[-1].reset = partial(connection.kill, Reason.CLOSED_BY_ADMIN, Side.PROXY)
        return connection

    def drain(self) -> None:
        """The worker is to end: who waits for nothing is let go, the others after their answers."""
        self.shared.draining = True
        for member in tuple(self.thread.members):
            if isinstance(member, HttpConnection):
                member.let_go()

    def make_room(self) -> None:
        """Descriptors are short: those that nobody uses go, and the clients that have asked for nothing the longest."""
        now = self.thread.loop.now
        if now < self._room_at + ROOM_EVERY:
            return
        self._room_at = now
        self.shared.upstreams.clear()
        self.shared.pipes.close()
        idle = [member for member in self.thread.members if isinstance(member, HttpConnection) and member.is_idle]
        for member in nsmallest(LET_GO, idle, key=lambda connection: connection.timers.deadline):
            member.let_go()

    @property
    def descriptors(self) -> int:
        """Those of connections to targets that no session counts: the idle ones; and of pipes."""
        upstreams = self.shared.upstreams
        return upstreams.idle + len(upstreams.reserved) + 2 * self.shared.pipes.open
