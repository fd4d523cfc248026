"""A request whose target has not answered is sent again, where that can have no effect twice (docs/http.md).

In the loop's thread, for an exchange whose target's connection has ended before the answer.

    NEVER ──its connection was a kept one, or took nothing: the same target──> RENEWED ──no answer there either──┐
      └──a new connection ended unheard────────────────────────────────────────────────> MOVED: another target <─┘

`outcomes.may_send_again` says which requests; after an interim answer, or on a connection with a login, none is.
"""

from enum import IntEnum
from typing import Final

from tcp_proxy.dataplane.http import requests
from tcp_proxy.dataplane.http.body import Body
from tcp_proxy.dataplane.http.upstreams import Upstream
from tcp_proxy.dataplane.live_target import LiveTarget
from tcp_proxy.sansio.http1 import outcomes
from tcp_proxy.sansio.reasons import errno_name
from tcp_proxy.wire.counters import RETRIES


class Repeats(IntEnum):
    """How often a request has been sent again."""

    NEVER = 0
    RENEWED = 1
    MOVED = 2


NEVER: Final[Repeats] = Repeats.NEVER
RENEWED: Final[Repeats] = Repeats.RENEWED
MOVED: Final[Repeats] = Repeats.MOVED


class Repeatable(requests.CountedRequest):
    """An exchange."""

    repeats = NEVER  # so far
    has_interim = False  # an interim answer has come: nothing is sent a second time
    up: Body | None = None

    def let_go(self, upstream: Upstream) -> None:
        """The connection has ended."""
        raise NotImplementedError

    def dial(self, target: LiveTarget | None, excluded: set[LiveTarget] | None = None) -> None:
        """Send it to this one, which is taken, or to any that is not excluded."""
        raise NotImplementedError


def send_again(exchange: Repeatable, upstream: Upstream, code: int, nothing_sent: bool) -> bool:
    """Whether it is on its way again. `code`: how the connection ended; `nothing_sent`: it took nothing of the request."""
    unheard = exchange.up is None and not upstream.reader.heard
    may = outcomes.may_send_again(exchange.request, nothing_sent, unheard)
    if not may or exchange.has_interim or upstream.binds:
        return False
    is_stale = nothing_sent or upstream.is_used  # the target itself may well be there
    if is_stale and exchange.repeats is NEVER and upstream.target.may_keep:
        exchange.repeats = RENEWED
        exchange.let_go(upstream)
        exchange.dial(upstream.target)
        return True
    return exchange.repeats is not MOVED and _move(exchange, upstream, code)


def _move(exchange: Repeatable, upstream: Upstream, code: int) -> bool:
    """To another target; False if there is none."""
    connection, old = exchange.connection, upstream.target
    if not connection.app.retries:
        return False
    target = exchange.route_targets.choose(connection.key, connection.thread.loop.now, {old})
    if target is None:
        return False
    exchange.repeats = MOVED
    requests.target_failed(exchange)
    exchange.tried += ((old.name, errno_name(code) if code else "no answer"),)
    row = connection.thread.row
    row[target.slot + RETRIES] += 1
    exchange.let_go(upstream)
    old.give(row)
    exchange.dial(target, {old})
    return True
