"""The connections to targets that a worker keeps, for whoever of its clients asks next, or for one of them (private.py).

Owned by the loop's thread.

    NEW ──first request──> ACTIVE (`owner` is the exchange) ──answer whole, may be kept──> IDLE ──next request──> ACTIVE
                                │ anything else                                              │ any event, `upstream_idle`
                                └──────────────────> CLOSED <────────────────────────────────┘

Always true: a connection on which something came that nobody had asked for is never used again. Whatever happens to an
idle one closes it. Before it is used, what the batch of events at hand says of it counts already, and it is looked at where
that says nothing: what has come and not been told yet would be taken for the answer
(test_what_comes_before_the_request_is_no_answer_to_it).
"""

import select
from socket import MSG_DONTWAIT, MSG_PEEK
from typing import Any, Final, Protocol

from tcp_proxy.dataplane.http.response_reader import ResponseReader
from tcp_proxy.dataplane.http.socket_writer import SocketWriter
from tcp_proxy.dataplane.live_target import LiveTarget
from tcp_proxy.dataplane.relay.session_thread import is_plain, leave
from tcp_proxy.dataplane.relay.splice import PipePool
from tcp_proxy.runtime.loop import WRITE, Loop
from tcp_proxy.runtime.stream_socket import StreamSocket
from tcp_proxy.wire.counters import HTTP_CONNECTIONS, Row
from tcp_proxy.wire.views import Endpoint

SWEEP_EVERY: Final = 1.0  # seconds between two looks at what is idle
RESTED: Final = 0.5  # seconds after which one is always looked at: servers close what has been idle for a while
NEVER: Final = float("inf")
_LOOK: Final = int(MSG_PEEK | MSG_DONTWAIT)  # worked out once: members of an enum take 1.5 us for each request
_POLL, _ANYTHING = select.poll(), select.POLLIN | select.POLLPRI | select.POLLRDHUP


class UpstreamOwner(Protocol):
    def upstream_ready(self, events: int) -> Any: ...


class Holder(Protocol):
    def lost(self, upstream: "Upstream") -> Any: ...  # one that rests: the pool closes it


class Upstream:
    """One connection to a target, made by a Dial."""

    __slots__ = (
        "_pool",
        "binds",
        "connect",
        "cut",
        "endpoints",
        "expires",
        "has_moved",
        "holder",
        "is_drained",
        "is_personal",
        "is_used",
        "kept_at",
        "kept_in",
        "owner",
        "port",
        "reader",
        "send_proxy",
        "slot",
        "sock",
        "target",
        "tls",
        "writer",
    )  # fmt: skip

    def __init__(self, pool: "Upstreams", loop: Loop, sock: StreamSocket, target: LiveTarget, port: int) -> None:
        """`port`: the listening port that it is for; of a group there is a server for each."""
        self._pool = pool
        self.port = port if target.servers else 0
        self.sock = sock
        self.target = target
        self.slot = target.slot + HTTP_CONNECTIONS  # where it is counted
        self.endpoints = _endpoints(target, port)
        self.tls, self.send_proxy = target.tls, target.send_proxy  # how it was spoken to from the start
        self.connect, self.is_personal = target.connect, target.is_personal
        self.reader = ResponseReader(sock)
        self.writer = SocketWriter(loop, sock, armed=True)
        self.owner: UpstreamOwner | None = None  # the exchange
        self.expires = NEVER
        self.is_used = False  # has served a request before
        self.is_drained = False  # its last answer was read to the end of what had come: of more there will be an event
        self.kept_at, self.kept_in = -NEVER, 0  # when, and in which round of the loop, it came to rest
        self.holder: Holder | None = None  # of the one client that may use it
        self.has_moved = False  # it is from another process, whose targets may have been spoken to otherwise
        self.binds = False  # that client must use it: it has logged in on it
        self.cut = 0  # with a holder: target.cut when it was made

    def __repr__(self) -> str:
        return f"<Upstream {self.target.name} {'idle' if self.owner is None else 'active'}>"

    @property
    def host(self) -> bytes:
        """What a request calls it that is not to have, or has not, a host of its own: what it is called now, as written."""
        return self.target.hosts.get(self.port, b"localhost")

    @property
    def is_private_still(self) -> bool:
        """Whether its target may have requests of the one whose it is."""
        return self.target.may_keep and self.target.cut == self.cut and self.is_as_wanted

    @property
    def is_as_wanted(self) -> bool:
        """Whether its target is still spoken to as this one was from the start: with this TLS, or PROXY header, from this
        address, or without. Of one that has moved here nobody knows: it serves the request that it has, and no other."""
        target = self.target
        is_so = target.tls is self.tls and target.connect is self.connect and target.send_proxy == self.send_proxy
        return is_so and not self.has_moved

    def is_current(self, port: int) -> bool:
        """Whether its target is still where it was."""
        return self.endpoints == _endpoints(self.target, port) and self.is_as_wanted

    def ready(self, events: int) -> None:
        if self.owner is not None:
            self.owner.upstream_ready(events)
        elif events & ~WRITE and (is_plain(self.sock) or not _is_silent(self)):
            # That there is room says nothing; it comes with bytes that have been read already. Nor does a session ticket.
            self._pool.discard(self)


class _Resting:
    """Those at rest to one target. The one that was used last is used first, so that the others can go, and because it is
    the least likely to end just now. But those that came to rest in this very round of the loop must be looked at, by a
    system call: they come after one that need not be."""

    __slots__ = ("_fresh", "_round", "upstreams")

    def __init__(self) -> None:
        self.upstreams: list[Upstream] = []
        self._round = self._fresh = 0  # so many, at the end, came to rest in that round

    def __repr__(self) -> str:
        return f"<_Resting {self.upstreams}>"

    def add(self, upstream: Upstream) -> None:
        if self._round != upstream.kept_in:
            self._round, self._fresh = upstream.kept_in, 0
        self._fresh += 1
        self.upstreams.append(upstream)

    def pop(self, loop: Loop) -> Upstream:
        upstreams, fresh = self.upstreams, self._fresh
        if self._round == loop.round and 0 < fresh < len(upstreams):
            older = len(upstreams) - 1 - fresh
            if loop.now - upstreams[older].kept_at < RESTED:
                return upstreams.pop(older)
        self._fresh = max(0, fresh - 1)
        return upstreams.pop()

    def remove(self, upstream: Upstream) -> None:
        if self._round == upstream.kept_in:
            self._fresh -= 1
        self.upstreams.remove(upstream)


class Upstreams:
    """All of a worker.

    `reserved`: those at rest that belong to one client each.
    """

    def __init__(self, loop: Loop, row: Row, pipes: PipePool) -> None:
        self._loop = loop
        self._row = row
        self._pipes = pipes
        self._idle: dict[tuple[LiveTarget, int], _Resting] = {}
        self._sweeping = False
        self.reserved: set[Upstream] = set()
        self.open = 0  # connections that exist, active ones too

    def __repr__(self) -> str:
        return f"<Upstreams {self.open} open, {self.idle} idle>"

    @property
    def idle(self) -> int:
        return sum([len(resting.upstreams) for resting in self._idle.values()])

    def adopt(self, sock: StreamSocket, target: LiveTarget, port: int) -> Upstream:
        """A new one, just connected."""
        self.open += 1
        upstream = Upstream(self, self._loop, sock, target, port)
        self._row[upstream.slot] += 1
        return upstream

    def take(self, target: LiveTarget, port: int) -> Upstream | None:
        """One that is idle and in order, to be used now."""
        idle = self._idle.get((target, port if target.servers else 0))
        while idle is not None and idle.upstreams:
            upstream = idle.pop(self._loop)
            is_there = upstream.endpoints is target.endpoints or upstream.endpoints == _endpoints(target, port)
            if is_there and upstream.is_as_wanted and self._is_in_order(upstream):
                return upstream
            self.close(upstream)
        return None

    def put(self, upstream: Upstream, most: int, seconds: float) -> None:
        """Keep it, for so many seconds, if its target has not so many already."""
        key, loop = (upstream.target, upstream.port), self._loop
        idle = self._idle.get(key)
        if (len(idle.upstreams) if idle is not None else 0) >= most or not upstream.target.is_eligible:
            self.close(upstream)
            return
        if idle is None:
            idle = self._idle[key] = _Resting()
        upstream.owner = None
        upstream.is_used = True
        upstream.kept_at, upstream.kept_in = loop.now, loop.round
        upstream.expires = loop.now + seconds
        idle.add(upstream)
        if not self._sweeping:
            self._sweep_soon()

    def reserve(self, upstream: Upstream, seconds: float) -> None:
        """It rests, for its holder's client alone, for so many seconds."""
        self.reserved.add(upstream)
        upstream.kept_at, upstream.kept_in = self._loop.now, self._loop.round
        upstream.expires = self._loop.now + seconds
        self._sweep_soon()

    def claim(self, upstream: Upstream) -> bool:
        """One that rests is used now, if it is in order; else it is closed."""
        self.reserved.remove(upstream)
        if self._is_in_order(upstream):
            return True
        self.close(upstream)
        return False

    def discard(self, upstream: Upstream) -> None:
        """One that is idle: it has spoken, or has ended, or its holder's client has."""
        if upstream.holder is not None:
            self.reserved.remove(upstream)
            upstream.holder.lost(upstream)
        else:
            self._idle[upstream.target, upstream.port].remove(upstream)
        self.close(upstream)

    def close(self, upstream: Upstream, reset: bool = False) -> None:
        """`reset`: the target is to know that we did not want the rest."""
        self.forget(upstream)
        upstream.writer.give_back(self._pipes)
        leave(upstream.sock, reset)
        self._loop.drop(upstream.sock)

    def clear(self) -> None:
        """Close all that are idle and nobody's."""
        for resting in self._idle.values():
            for upstream in resting.upstreams:
                self.close(upstream)
        self._idle.clear()

    def forget(self, upstream: Upstream) -> None:
        """It is closed, or somebody else's from now on: a tunnel's."""
        self.open -= 1
        self._row[upstream.slot] -= 1

    def _is_in_order(self, upstream: Upstream) -> bool:
        """Still there, and silent. Asking the socket costs a request 1 us: not where the batch tells."""
        loop, sock = self._loop, upstream.sock
        if not upstream.is_drained or upstream.kept_in == loop.round or loop.now - upstream.kept_at >= RESTED:
            return _is_silent(upstream)
        return not loop.may_have_news(sock.fileno()) or _is_silent(upstream)

    def _sweep_soon(self) -> None:
        if not self._sweeping:
            self._sweeping = True
            self._loop.call_later(SWEEP_EVERY, self._sweep)

    def _sweep(self) -> None:
        now = self._loop.now
        for upstream in [one for one in self.reserved if one.expires <= now or not one.is_private_still]:
            self.discard(upstream)
        for (target, port), idle in list(self._idle.items()):
            endpoints = _endpoints(target, port) if target.is_eligible else ()
            kept = [one for one in idle.upstreams if one.expires > now and one.endpoints == endpoints and one.is_as_wanted]
            for one in set(idle.upstreams).difference(kept):
                self.close(one)
            idle.upstreams = kept  # those of this round are looked at wherever they are
            if not kept:
                del self._idle[target, port]
        self._sweeping = False
        if self._idle or self.reserved:
            self._sweep_soon()


def _endpoints(target: LiveTarget, port: int) -> tuple[Endpoint, ...]:
    return target.servers.get(port, ()) if target.servers else target.endpoints


def has_spoken(upstream: Upstream) -> bool:
    """Whether bytes of it wait to be read; its error, if it has one, is left to who reads them."""
    try:
        return bool(upstream.sock.recv(1, _LOOK))
    except OSError:
        return False


def _is_silent(upstream: Upstream) -> bool:
    """Still there, and nothing has come."""
    if is_plain(upstream.sock):  # a poll needs no exception to say so: a third of the time
        fd = upstream.sock.fileno()
        _POLL.register(fd, _ANYTHING)
        has_happened = _POLL.poll(0)
        _POLL.unregister(fd)
        return not has_happened
    try:
        upstream.sock.recv(1, _LOOK)
    except BlockingIOError:
        return True
    except OSError:
        pass
    return False
