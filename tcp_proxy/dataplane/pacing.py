"""How fast a session of an app with limits.bytes_per_second moves its bytes: what its pumps ask (relay.paced_pump).

Owned by the loop's thread. A session keeps its own rate to its end; its client's is the one that the app has now.
"""

from socket import SocketType
from typing import Any

from tcp_proxy.dataplane.relay.paced_pump import PacedPump
from tcp_proxy.dataplane.relay.pump import Pump
from tcp_proxy.dataplane.relay.session_thread import tls_pump
from tcp_proxy.runtime.loop import Loop
from tcp_proxy.runtime.stream_socket import StreamSocket
from tcp_proxy.sansio.token_bucket import SECOND, TokenBucket


class PacedSocket(SocketType):
    """A client's, in clear, whose session is paced: so that it is told from those that need no look (Session)."""


class Pacing:
    """Of one direction of a session: called with each number of bytes that have moved, for how long nothing more may."""

    __slots__ = ("_bucket", "_full_at", "_is_down", "_loop", "_session")

    def __init__(self, loop: Loop, session: Any, is_down: bool) -> None:
        self._loop = loop
        self._session = session
        self._is_down = is_down
        rate = session.app.limits.bytes_per_second
        self._bucket = TokenBucket(rate) if rate else None
        self._full_at = 0

    def __repr__(self) -> str:
        return f"<Pacing {'down' if self._is_down else 'up'} of {self._session!r}>"

    def __call__(self, count: int) -> float:
        now, wait = int(self._loop.now * SECOND), 0
        if self._bucket is not None:
            self._full_at, wait = self._bucket.spend(self._full_at, now, count)
        of_clients = self._session.app.client_limits
        if of_clients is not None:
            wait = max(wait, of_clients.spend(self._session.number, self._is_down, count, now))
        return wait / SECOND


def paced_pump(loop: Loop, session: Any, source: StreamSocket, dest: StreamSocket, tcp: bool, is_plain: bool) -> Pump:
    """Also of a session that meets faults on purpose."""
    app, limits = session.app, session.app.limits
    faults = app.faults.find(session.number, session.address) if app.faults is not None else None
    if faults:
        from tcp_proxy.dataplane.faulty_pump import faulty_pump  # noqa: PLC0415  for the first that needs it

        paced = Pacing(loop, session, source is not session.client) if app.has_rates else None
        pump = faulty_pump(faults, loop, session, source, dest, tcp, paced)
        if pump is not None:
            return pump
    rates = [rate for rate in (limits.bytes_per_second, limits.bytes_per_second_per_client) if rate]
    if not rates:
        return Pump(loop, session, source, dest, tcp) if is_plain else tls_pump(loop, session, source, dest, tcp)
    rate = min(rates)
    spend = Pacing(loop, session, source is not session.client)
    if is_plain:
        return PacedPump(loop, session, source, dest, tcp, rate, spend)
    from tcp_proxy.dataplane.relay.paced_tls_pump import PacedTlsPump  # noqa: PLC0415  ssl: for the first that needs it

    return PacedTlsPump(loop, session, source, dest, tcp, rate, spend)
