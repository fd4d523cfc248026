"""What the clients of all apps in http mode share in a worker: kept connections to targets, pipes, the date.

Owned by the loop's thread; made with the first such app (dataplane.server imports it then, and not before).
"""

import time
from collections.abc import Callable
from heapq import nsmallest
from socket import SocketType
from typing import Any

from tcp_proxy.dataplane.apps import LiveApp
from tcp_proxy.dataplane.homes import Home
from tcp_proxy.dataplane.http.session import HttpSession
from tcp_proxy.dataplane.http.site import Site
from tcp_proxy.dataplane.http.upstreams import Upstreams
from tcp_proxy.dataplane.splice import PipePool
from tcp_proxy.dataplane.tally import Entrance

LET_GO, ROOM_EVERY = 32, 1.0  # idle clients at a time, and seconds in between, when descriptors are short
_DAYS = (b"Mon", b"Tue", b"Wed", b"Thu", b"Fri", b"Sat", b"Sun")
_MONTHS = (b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec")


class Front:
    def __init__(self, home: Home, may_open_pipe: Callable[[], bool]) -> None:
        self.home = home
        self.pipes = PipePool(may_open_pipe)
        self.upstreams = Upstreams(home.loop, self.pipes)
        self.draining = False
        self._room_at = float("-inf")
        self._date = b""
        self._date_until = float("-inf")

    def __repr__(self) -> str:
        return f"<Front {self.upstreams!r}>"

    def session(self, number: int, app: LiveApp, listener: Entrance, client: SocketType, address: Any) -> HttpSession:
        return HttpSession(number, self, app, listener, client, address)

    def site(self, app: LiveApp) -> Site:
        """What the app is now."""
        if app.site is None:
            assert app.http is not None
            app.site = Site(app, app.http)
        site: Site = app.site
        return site

    def drain(self) -> None:
        """The worker is to end: who waits for nothing is let go, the others after their answers."""
        self.draining = True
        for member in tuple(self.home.members):
            if isinstance(member, HttpSession):
                member.let_go()

    def make_room(self) -> None:
        """Descriptors are short: those that nobody uses go, and the clients that have asked for nothing the longest."""
        now = self.home.loop.now
        if now < self._room_at + ROOM_EVERY:
            return
        self._room_at = now
        self.upstreams.clear()
        idle = [member for member in self.home.members if isinstance(member, HttpSession) and member.is_idle]
        for member in nsmallest(LET_GO, idle, key=lambda session: session.deadline):
            member.let_go()

    @property
    def descriptors(self) -> int:
        """Those of connections to targets that no session counts: the idle ones; and of pipes."""
        return self.upstreams.idle + 2 * self.pipes.open

    @property
    def date(self) -> bytes:
        """For an answer without one (RFC 9110, 5.6.7); the locale has no part in it."""
        now = self.home.loop.now
        if now >= self._date_until:
            wall = now + self.home.recorder.wall
            at = time.gmtime(wall)
            self._date_until = now + 1.0 - wall % 1.0
            self._date = b"%b, %02d %b %04d %02d:%02d:%02d GMT" % (
                _DAYS[at.tm_wday], at.tm_mday, _MONTHS[at.tm_mon - 1], at.tm_year, at.tm_hour, at.tm_min, at.tm_sec,
            )  # fmt: skip
        return self._date
