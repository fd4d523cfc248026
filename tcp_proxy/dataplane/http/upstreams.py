"""The connections to targets that a worker keeps, for whoever of its clients asks next.

Owned by the loop's thread.

    NEW ──first request──> ACTIVE (`owner` is the exchange) ──answer whole, may be kept──> IDLE ──next request──> ACTIVE
                                │ anything else                                              │ any event, `upstream_idle`
                                └──────────────────> CLOSED <────────────────────────────────┘

Always true: a connection on which something came that nobody had asked for is never used again. Whatever happens to an
idle one closes it; and before it is used it is looked at once more: what has come and not been told yet would be taken for
the answer (test_what_comes_before_the_request_is_no_answer_to_it).
"""

from socket import AF_UNIX, MSG_DONTWAIT, MSG_PEEK, SocketType
from typing import Any

from tcp_proxy.dataplane.apps import LiveTarget
from tcp_proxy.dataplane.http.outlet import Outlet
from tcp_proxy.dataplane.splice import PipePool
from tcp_proxy.loop import WRITE, Loop
from tcp_proxy.messages import Endpoint
from tcp_proxy.sansio.address import client_text
from tcp_proxy.socket_options import reset_on_close

SWEEP_EVERY = 1.0  # seconds between two looks at what is idle
NEVER = float("inf")


class Upstream:
    """One connection to a target, made by a Dial."""

    __slots__ = ("_pool", "endpoints", "expires", "is_used", "outlet", "owner", "port", "sock", "target")

    def __init__(self, pool: "Upstreams", loop: Loop, sock: SocketType, target: LiveTarget, port: int) -> None:
        """`port`: the listening port that it is for; of a group there is a server for each."""
        self._pool = pool
        self.port = port if target.servers else 0
        self.sock = sock
        self.target = target
        self.endpoints = _endpoints(target, port)
        self.outlet = Outlet(loop, sock, armed=True)
        self.owner: Any = None
        self.expires = NEVER
        self.is_used = False  # has served a request before

    def __repr__(self) -> str:
        return f"<Upstream {self.target.name} {'idle' if self.owner is None else 'active'}>"

    @property
    def host(self) -> bytes:
        """What a request names it by that says no host of its own."""
        try:
            address = self.sock.getpeername()
        except OSError:  # it is gone: sending will tell
            return b"localhost"
        return b"localhost" if self.sock.family == AF_UNIX else client_text(address).encode()

    def ready(self, events: int) -> None:
        if self.owner is not None:
            self.owner.upstream_ready(events)
        elif events & ~WRITE:  # that there is room says nothing; it comes with bytes that have been read already
            self._pool.discard(self)


class Upstreams:
    """All of a worker. `idle`: the one that was used last is used first, so that the others can go."""

    def __init__(self, loop: Loop, pipes: PipePool) -> None:
        self._loop = loop
        self._pipes = pipes
        self._idle: dict[tuple[LiveTarget, int], list[Upstream]] = {}
        self._sweeping = False
        self.open = 0  # connections that exist, active ones too

    def __repr__(self) -> str:
        return f"<Upstreams {self.open} open, {self.idle} idle>"

    @property
    def idle(self) -> int:
        return sum(map(len, self._idle.values()))

    def adopt(self, sock: SocketType, target: LiveTarget, port: int) -> Upstream:
        """A new one, just connected."""
        self.open += 1
        return Upstream(self, self._loop, sock, target, port)

    def take(self, target: LiveTarget, port: int) -> Upstream | None:
        """One that is idle and in order, to be used now."""
        idle = self._idle.get((target, port if target.servers else 0))
        while idle:
            upstream = idle.pop()
            if upstream.endpoints == _endpoints(target, port) and _is_in_order(upstream):
                return upstream
            self.close(upstream)
        return None

    def put(self, upstream: Upstream, most: int, seconds: float) -> None:
        """Keep it, for so many seconds, if its target has not so many already."""
        key = upstream.target, upstream.port
        idle = self._idle.get(key)
        if len(idle or ()) >= most or not upstream.target.is_eligible:
            self.close(upstream)
            return
        if idle is None:
            idle = self._idle[key] = []
        upstream.owner = None
        upstream.is_used = True
        upstream.expires = self._loop.now + seconds
        idle.append(upstream)
        if not self._sweeping:
            self._sweeping = True
            self._loop.call_later(SWEEP_EVERY, self._sweep)

    def discard(self, upstream: Upstream) -> None:
        """One that is idle: it has spoken, or has ended."""
        self._idle[upstream.target, upstream.port].remove(upstream)
        self.close(upstream)

    def close(self, upstream: Upstream, reset: bool = False) -> None:
        """`reset`: the target is to know that we did not want the rest."""
        self.open -= 1
        upstream.outlet.give_back(self._pipes)
        if reset and upstream.sock.family != AF_UNIX:
            reset_on_close(upstream.sock)
        self._loop.drop(upstream.sock)

    def clear(self) -> None:
        """Close all that are idle."""
        for upstreams in self._idle.values():
            for upstream in upstreams:
                self.close(upstream)
        self._idle.clear()

    def forget(self, _upstream: Upstream) -> None:
        """It is somebody else's from now on: a tunnel's."""
        self.open -= 1

    def _sweep(self) -> None:
        now = self._loop.now
        for (target, port), idle in list(self._idle.items()):
            endpoints = _endpoints(target, port) if target.is_eligible else ()
            kept = [one for one in idle if one.expires > now and one.endpoints == endpoints]
            for one in set(idle).difference(kept):
                self.close(one)
            if kept:
                self._idle[target, port] = kept
            else:
                del self._idle[target, port]
        self._sweeping = bool(self._idle)
        if self._sweeping:
            self._loop.call_later(SWEEP_EVERY, self._sweep)


def _endpoints(target: LiveTarget, port: int) -> tuple[Endpoint, ...]:
    return target.servers.get(port, ()) if target.servers else target.endpoints


def _is_in_order(upstream: Upstream) -> bool:
    """Still there, and silent."""
    try:
        upstream.sock.recv(1, MSG_PEEK | MSG_DONTWAIT)
    except BlockingIOError:
        return True
    except OSError:
        pass
    return False
