"""The connections to targets that one client alone may use: it has logged in on them (sansio/http1/login.py), and must use
them again; or they began with a PROXY header that names it, or come from its own address (transparent), and are as good as
any for it.

Owned by the loop's thread; each client's connection holds one of these. At rest a connection is here and in the pool's
`reserved`; while it serves a request it is the exchange's and in neither.

Always true: it is never in the pool's store for everybody (test_private.py); it goes when the client's connection goes, or
when its target ends it, is down, removed, or has its sessions ended; one that its client need not use again goes after
`upstream_idle`, too. A draining target keeps it, as it keeps sessions.
"""

from typing import Any

from tcp_proxy.config.model import Http
from tcp_proxy.dataplane.http.upstreams import NEVER, Upstream, Upstreams
from tcp_proxy.dataplane.live_target import LiveTarget
from tcp_proxy.wire.counters import Row


class ClientUpstreams:
    """At most one for each target, so as many as the client's routes lead to."""

    __slots__ = ("_pool", "resting")

    def __init__(self, pool: Upstreams) -> None:
        self._pool = pool
        self.resting: list[Upstream] = []

    def __repr__(self) -> str:
        return f"<ClientUpstreams {self.resting}>"

    def put_away(self, upstream: Upstream, cut: int, has_login: bool, is_kept: bool, http: Http) -> bool:
        """It has answered and can be used again: by this client alone if it has logged in on it, or has begun to. False
        where the client's connection ends, not `is_kept`, and this one with it. `cut`: of its target, when chosen."""
        if not upstream.is_as_wanted:
            return False
        upstream.binds = upstream.binds or has_login
        if upstream.holder is None and not has_login and not upstream.is_personal:
            self._pool.put(upstream, http.upstream_connections, http.upstream_idle)
        elif is_kept:
            upstream.owner = None
            upstream.is_used = True
            upstream.holder = self
            upstream.cut = cut
            self.resting.append(upstream)
            self._pool.reserve(upstream, NEVER if upstream.binds else http.upstream_idle)
        else:
            return False
        return True

    def take(self, route_targets: Any, row: Row) -> tuple[Upstream | None, bool]:
        """The one that a request for these route_targets must use, its target taken; and whether that is at its limit:
        another target would not know who this is. None: there is none, or its target has ended it."""
        for upstream in reversed(self.resting):
            target = upstream.target
            if upstream.binds and upstream.is_private_still and route_targets.offers(target):
                if not target.take(row):
                    return None, True
                self.resting.remove(upstream)
                if self._pool.claim(upstream):
                    return upstream, False
                target.give(row)
                break
        return None, False

    def take_for(self, target: LiveTarget, port: int) -> Upstream | None:
        """One to this target, which has been chosen: anybody's, or this client's where PROXY headers, or addresses, say
        whose it is."""
        if not target.is_personal:
            return self._pool.take(target, port)
        for upstream in reversed(self.resting):
            if upstream.target is target and upstream.is_current(port) and upstream.is_private_still:
                self.resting.remove(upstream)
                return upstream if self._pool.claim(upstream) else None
        return None

    def lost(self, upstream: Upstream) -> None:
        """The pool closes it."""
        self.resting.remove(upstream)

    def release(self) -> None:
        """The client has gone."""
        while self.resting:
            self._pool.discard(self.resting[-1])
