"""After 101, or the answer to a CONNECT: the two connections become a plain session, relayed and spliced as any other.

Owned by the loop's thread. The new Session has the old one's number, client and clock; it was counted when it came, its
target is held on, and it ends as sessions do.
"""

from socket import SocketType
from typing import Any, Protocol

from tcp_proxy.dataplane.apps import LiveApp
from tcp_proxy.dataplane.http import requests
from tcp_proxy.dataplane.http.reader import RequestReader
from tcp_proxy.dataplane.http.shared import HttpShared
from tcp_proxy.dataplane.http.socket_writer import SocketWriter
from tcp_proxy.dataplane.http.upstreams import Upstream
from tcp_proxy.dataplane.live_target import LiveTarget
from tcp_proxy.dataplane.relay.session_thread import SessionThread
from tcp_proxy.dataplane.session import Session
from tcp_proxy.dataplane.session_counters import ListenerCounters
from tcp_proxy.dataplane.session_state import RELAYING
from tcp_proxy.runtime.loop import QUIET_EDGE
from tcp_proxy.runtime.stream_socket import StreamSocket
from tcp_proxy.sansio.reasons import Reason
from tcp_proxy.wire.records import Origin


class TunnelClient(Protocol):
    """Whose client it was; all of it is read, and nothing asked of it."""

    number: int
    thread: SessionThread
    shared: HttpShared
    app: LiveApp
    listener: ListenerCounters
    client: StreamSocket
    address: Any
    started: float
    origin: Origin | None
    reader: RequestReader
    writer: SocketWriter


def open_tunnel(
    http: TunnelClient, exchange: requests.CountedRequest, upstream: Upstream, cut: int, first_down: bytes
) -> None:
    """The exchange has switched: its target and the connection to it are the tunnel's. `first_down`: what the client is to
    have before all else, but for what waits for it already."""
    target = exchange.target
    assert target is not None
    thread = http.thread
    thread.loop.unwatch(http.client.fileno())
    thread.loop.unwatch(upstream.sock.fileno())
    held: bytes = http.client.take_held() if hasattr(http.client, "take_held") else b""  # by a fault on purpose
    session = _session(http, getattr(exchange.route_targets, "copy", None), target)
    session.started, session.origin = http.started, http.origin
    exchange.target = None
    http.shared.upstreams.forget(upstream)
    thread.members.discard(http)
    requests.ended(exchange, Reason.DONE)
    thread.members.add(session)
    first_up = bytes(upstream.writer.pending) + http.reader.take() + held
    first_down = bytes(http.writer.pending) + first_down  # interim answers
    up, down = session.connected_before(upstream.sock, target, cut, exchange.tried)
    thread.loop.watch(session.client.fileno(), QUIET_EDGE, up.ready)
    thread.loop.watch(upstream.sock.fileno(), QUIET_EDGE, down.ready)
    up.begin(first_up, 0)
    if session.state is RELAYING:
        down.begin(first_down, 0)


def _session(http: TunnelClient, stick: Any, target: LiveTarget) -> Session:
    """`stick`: the key's copy, of a client that stays by a header (http.stick)."""
    is_stuck = stick is not None and http.app.sticks is not None
    made = http.shared.stuck_session if is_stuck else Session
    client = _not_paced(http.thread, http.client)
    session: Session = made(http.number, http.thread, http.app, http.listener, client, http.address)
    if is_stuck:
        session.arrive_as(stick.key, target.name)  # type: ignore[attr-defined]
    return session


def _not_paced(thread: SessionThread, client: StreamSocket) -> StreamSocket:
    """As a session wants it, whose pumps are slowed down themselves."""
    if not hasattr(client, "paused_until"):
        return client
    from tcp_proxy.dataplane.pacing import PacedSocket, paced_pump  # noqa: PLC0415

    thread.paced = paced_pump
    sock: StreamSocket = client.release()  # type: ignore[attr-defined]
    return PacedSocket(sock.family, sock.type, 0, sock.detach()) if type(sock) is SocketType else sock
