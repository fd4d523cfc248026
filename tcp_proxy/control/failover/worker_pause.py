"""Every worker is told that an app has no primary, and obeys. Main thread only.

    none ──begin(epoch)──> PAUSING ──all have answered, or are gone──> `done(epoch)`
                              └── one that has not obeyed in PAUSE_WITHIN is killed
"""

import logging
from collections.abc import Callable
from typing import Any

from tcp_proxy.control.context import Context
from tcp_proxy.control.processes.workers import Worker
from tcp_proxy.control.targets.known import KnownApp
from tcp_proxy.wire.messages import Primary

logger = logging.getLogger(__name__)

PAUSE_WITHIN = 2.0  # seconds


class WorkerPause:
    def __init__(self, context: Context, app: KnownApp, done: Callable[[int], Any]) -> None:
        self._context = context
        self._app = app
        self._done = done
        self._epoch = -1
        self._waiting: set[Worker] = set()

    def __repr__(self) -> str:
        return f"<WorkerPause {self._app.config.name} epoch {self._epoch}, {len(self._waiting)} waiting>"

    @property
    def is_pausing(self) -> bool:
        return bool(self._waiting)

    def begin(self, epoch: int) -> None:
        context = self._context
        self._epoch = epoch
        self._waiting = {worker for worker in context.worker_pool if worker.is_told}
        context.worker_pool.send(Primary(self._app.config.name, epoch, "", context.loop.now))
        context.loop.call_later(PAUSE_WITHIN, self._app.when_whole, lambda: self._end_the_silent(epoch))
        if not self._waiting:
            self._done(epoch)

    def paused(self, worker: Worker, epoch: int) -> None:
        if epoch == self._epoch:
            self.left(worker)

    def left(self, worker: Worker) -> None:
        """A worker that is gone sends nobody anywhere."""
        if worker in self._waiting:
            self._waiting.discard(worker)
            if not self._waiting:
                self._done(self._epoch)

    def stop(self) -> None:
        self._waiting.clear()
        self._epoch = -1

    def _end_the_silent(self, epoch: int) -> None:
        if epoch != self._epoch:
            return
        for worker in tuple(self._waiting):
            if worker.is_ready:  # one that starts is waited for: its channel tells when it hangs
                text = "app %s: worker %d (pid %d) does not let go of the old primary: it is killed"
                logger.error(text, self._app.config.name, worker.index, worker.pid)
                worker.kill()
        if self._waiting:
            self._context.loop.call_later(PAUSE_WITHIN, self._app.when_whole, lambda: self._end_the_silent(epoch))
