"""What the clients of all apps in http mode share in a worker: kept connections to targets, pipes, the date.

Owned by the loop's thread. It knows no client; context.py does.
"""

import time
from collections.abc import Callable
from typing import Any

from tcp_proxy.dataplane.apps import LiveApp
from tcp_proxy.dataplane.http.app import HttpApp
from tcp_proxy.dataplane.http.upstreams import Upstreams
from tcp_proxy.dataplane.relay.session_thread import SessionThread
from tcp_proxy.dataplane.relay.splice import PipePool

_DAYS = (b"Mon", b"Tue", b"Wed", b"Thu", b"Fri", b"Sat", b"Sun")
_MONTHS = (b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec")


class HttpShared:
    """`draining`: the worker is to end; no connection is kept after its answer."""

    def __init__(self, thread: SessionThread, may_open_pipe: Callable[[], bool]) -> None:
        self.thread = thread
        self.pipes = PipePool(may_open_pipe)
        self.upstreams = Upstreams(thread.loop, thread.row, self.pipes)
        self.draining = False
        self.stuck_session: Any = None  # a StickySession's class: what a tunnel of a client that stays by a header is
        self._date = b""
        self._date_until = float("-inf")

    def __repr__(self) -> str:
        return f"<HttpShared {self.upstreams!r}>"

    def http_app(self, app: LiveApp) -> HttpApp:
        """What the app is now."""
        if app.http_app is None:
            assert app.http is not None
            app.http_app = HttpApp(app, app.http)
        http_app: HttpApp = app.http_app
        return http_app

    @property
    def date(self) -> bytes:
        """For an answer without one (RFC 9110, 5.6.7); the locale has no part in it."""
        now = self.thread.loop.now
        if now >= self._date_until:
            wall = now + self.thread.recorder.wall
            at = time.gmtime(wall)
            self._date_until = now + 1.0 - wall % 1.0
            self._date = b"%b, %02d %b %04d %02d:%02d:%02d GMT" % (
                _DAYS[at.tm_wday], at.tm_mday, _MONTHS[at.tm_mon - 1], at.tm_year, at.tm_hour, at.tm_min, at.tm_sec,
            )  # fmt: skip
        return self._date
