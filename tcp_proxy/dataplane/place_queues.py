"""The queues of a worker's apps, made and changed as the configuration says. The event loop's thread only."""

from tcp_proxy.dataplane.apps import LiveApp
from tcp_proxy.dataplane.place_queue import Bell, PlaceQueue
from tcp_proxy.runtime.loop import Loop
from tcp_proxy.wire.counters import ROWS_PER_WORKER, Row
from tcp_proxy.wire.views import AppView


class PlaceQueues:
    """`mine`: the worker's first row of all `rows`."""

    def __init__(self, loop: Loop, bell: int, rows: list[Row], mine: Row) -> None:
        self._loop = loop
        self._bell = Bell(loop, bell)
        self._rows = rows
        self._mine = mine

    def __repr__(self) -> str:
        return f"<PlaceQueues with {self._bell!r}>"

    def configure(self, app: LiveApp, view: AppView) -> None:
        """The app is what the view says. A queue that is off is kept for as long as somebody waits in it."""
        queue = app.queue
        if queue is None and view.limits.queue:
            queue = PlaceQueue(self._loop, self._bell, self._first_rows, self._mine, app.slot)
        if queue is not None:
            queue.configure(view.limits)
            app.use_queue(queue if view.limits.queue or len(queue) else None)
            queue.look()

    def close(self) -> None:
        self._bell.close()

    def look(self) -> None:
        """Something has changed that may be what somebody waits for."""
        self._bell.look()

    def _first_rows(self) -> list[Row]:
        return self._rows[1::ROWS_PER_WORKER]
