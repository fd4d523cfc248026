"""After 101, or the answer to a CONNECT: the two connections become a plain session, relayed and spliced as any other.

Owned by the loop's thread. The new Session has the old one's number, client and clock; it was counted when it came, its
target is held on, and it ends as sessions do.
"""

from typing import TYPE_CHECKING

from tcp_proxy.dataplane.session import Session

if TYPE_CHECKING:
    from tcp_proxy.dataplane.http.exchange import Exchange
    from tcp_proxy.dataplane.http.session import HttpSession


def open_tunnel(http: "HttpSession", exchange: "Exchange", first_down: bytes) -> None:
    """`first_down`: what the client is to have before all else."""
    upstream, target = exchange.upstream, exchange.target
    assert upstream is not None
    assert target is not None
    home = http.home
    home.loop.unwatch(http.client.fileno())
    home.loop.unwatch(upstream.sock.fileno())
    session = Session(http.number, home, http.app, http.listener, http.client, http.address)
    session.started = http.started
    first_up, http.input = http.input, b""
    exchange.target = exchange.upstream = None
    http.front.upstreams.forget(upstream)
    http.handed_over(exchange)
    home.members.add(session)
    first_down = bytes(http.outlet.pending) + first_down  # interim answers
    first_up = bytes(upstream.outlet.pending) + first_up
    session.tunnel(upstream.sock, target, exchange.cut, exchange.tried, first_up, first_down)
