"""Ports of an app with `while_electing` "refuse": open exactly while there is a primary. Main thread only."""

import logging

from tcp_proxy.control.context import Context
from tcp_proxy.control.targets.known import KnownApp
from tcp_proxy.runtime.loop import Timer

logger = logging.getLogger(__name__)

LISTEN_AGAIN = 1.0  # seconds until a port that could not be opened is tried again


class Ports:
    def __init__(self, context: Context, app: KnownApp) -> None:
        self._context = context
        self._app = app
        self._is_wanted = False
        self._timer: Timer | None = None

    def __repr__(self) -> str:
        return f"<Ports of {self._app.config.name}>"

    def look(self, *, is_serving: bool, is_pausing: bool) -> None:
        """`is_pausing`: a worker must not be left with a port that it watches and that is closed."""
        self._is_wanted = is_serving or not self._app.config.refuses
        if self._context.is_stopping or (not self._is_wanted and is_pausing):
            return
        self._open()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _open(self) -> None:
        self.stop()
        name = self._app.config.name
        for item in self._context.listening.values():
            if item.app != name or item.is_listening == self._is_wanted:
                continue
            try:
                item.listen() if self._is_wanted else item.stop_listening()
            except OSError as error:
                logger.error("app %s: %s cannot be opened: %s; tried again", name, item.address, error.strerror)  # noqa: TRY400
                self._timer = self._context.loop.call_later(LISTEN_AGAIN, self._open)
                return
