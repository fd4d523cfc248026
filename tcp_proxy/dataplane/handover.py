"""A session changes its thread: from the event loop to a relay thread when it is bulk, and back when it is not.

A hand-over is always: the old thread lets go of everything (`leave`), then queues `arrive` to the new one; between the
two the session belongs to that queued call and nobody touches it. What was read and not written travels in the session's
pumps. The whole session moves, never one direction (DESIGN 9.3).
"""

from socket import SocketType
from typing import Any

from tcp_proxy.dataplane.apps import LiveTarget
from tcp_proxy.dataplane.homes import Home
from tcp_proxy.dataplane.pump import Pump
from tcp_proxy.loop import EDGE


def hand_over(session: "Movable", to: Home) -> bool:
    """From the thread that owns the session now. False, and the session stays, when `to` takes nobody any more."""
    old = session.home
    session.leave()
    if to.loop.call_soon(session.arrive, to):
        return True
    session.arrive(old)
    return False


class Movable:
    """The part of a session that moves: two sockets, two pumps, and where they are at home."""

    __slots__ = ("calm_mark", "calm_since", "client", "cut", "down", "home", "target", "up", "upstream")
    home: Home
    client: SocketType
    upstream: SocketType | None
    up: Pump | None
    down: Pump | None
    target: LiveTarget | None
    cut: int
    calm_since: float
    calm_mark: int

    def leave(self) -> None:
        """The old owner's last touch. Calls of the old pumps that are still queued here find them done; what they had
        read and not written travels in two pumps that no loop knows."""
        home, upstream, up, down = self.home, self.upstream, self.up, self.down
        assert upstream is not None
        assert up is not None
        assert down is not None
        me: Any = self
        self._set_pumps(*(Pump(home.loop, me, old.source, old.dest, old.tcp).take_over(old) for old in (up, down)))
        up.retire()
        down.retire()
        home.loop.unwatch(self.client.fileno())
        home.loop.unwatch(upstream.fileno())
        home.members.discard(self)
        self.client.setblocking(False)  # a splice waits for a socket that is not non-blocking itself (DESIGN 9.3)

    def arrive(self, home: Home) -> None:
        """The new owner's first touch. Whatever can be read or written now comes as a first edge of its epoll."""
        self.home = home
        loop, upstream = home.loop, self.upstream
        assert upstream is not None
        up, down = self._replace_pumps(home)
        home.members.add(self)
        loop.watch(self.client.fileno(), EDGE, up.ready)
        loop.watch(upstream.fileno(), EDGE, down.ready)
        self.calm_since, self.calm_mark = loop.now, up.moved + down.moved
        self.arrived()

    def arrived(self) -> None:
        """At home again: see to what was missed on the way."""
        raise NotImplementedError

    def _replace_pumps(self, home: Home) -> tuple[Pump, Pump]:
        old_up, old_down = self.up, self.down
        assert old_up is not None
        assert old_down is not None
        me: Any = self
        return self._set_pumps(
            home.make_pump(me, old_up.source, old_up.dest, old_up.tcp).take_over(old_up),
            home.make_pump(me, old_down.source, old_down.dest, old_down.tcp).take_over(old_down),
        )

    def _set_pumps(self, up: Pump, down: Pump) -> tuple[Pump, Pump]:
        self.up, self.down = up, down
        up.opposite, down.opposite = down, up
        return up, down
