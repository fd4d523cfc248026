"""A supervisor's part in take-overs: it may be taken over from, and may have come by one itself.

Main thread only. Owns the socket where programs that want to take over come; with `taken`, what the old program has told,
until we are the owner.

    with `taken`: NOT_OURS ──look(): our workers are ready──> OURS         without: OURS from the start
    OURS ──another program has taken over──> AWAY
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tcp_proxy.control.changes.worker_updates import WorkerUpdates
from tcp_proxy.control.service_manager import ServiceManager
from tcp_proxy.control.takeover import report
from tcp_proxy.control.takeover.listener import TakeoverSocket, path_of
from tcp_proxy.control.takeover.program import Program
from tcp_proxy.control.takeover.upgrade import Upgrade

if TYPE_CHECKING:  # imported where there is a take-over
    from tcp_proxy.control.takeover.taken import Taken


class HandOver:
    """`own()` is called when we are the owner, and clients can be served."""

    def __init__(
        self,
        program: Program,
        taken: "Taken | None",
        updates: WorkerUpdates,
        own: Callable[[], Any],
    ) -> None:
        context = program.context
        self.socket = TakeoverSocket(context.loop, path_of(context.config), lambda: program)
        self.ready_text = ""  # what a service manager is told, from when we serve on
        self._program = program
        self._taken = taken
        self._updates = updates
        self._own = own
        self.upgrade = Upgrade(program, self.socket, str(taken) if taken is not None else "")
        if taken is not None:
            taken.restore(program)

    def __repr__(self) -> str:
        return f"<HandOver {'ours' if self.is_ours else f'not ours yet, {self._taken!r}'}>"

    @property
    def is_ours(self) -> bool:
        """Listeners, files, workers: nothing of it may be written, closed or removed before."""
        return self._taken is None

    def start(self) -> None:
        if self.socket.path:
            self.socket.start()

    def look(self) -> None:
        """Take over, as soon as nothing is left that could fail. Raises CannotTakeOver."""
        taken, context = self._taken, self._program.context
        pool = context.worker_pool
        if taken is None or context.is_stopping or not pool.is_complete or not context.is_node_prepared(self.look):
            return
        context.session_moves.prepare(pool)
        taken.complete(self._program, self._updates)
        self._taken = None
        report.close()
        context.service_manager.close()  # it listens to the main process: which one that is, the old one has to say first
        manager = ServiceManager(context.loop, taken.manager)
        context.fd_store.room = manager.keeps
        taken.when_left(self._program, lambda: self._serve_manager(manager))
        self._own()
        rows = context.counter_rows
        taken.end(self._program, lambda: not context.listening or all(map(rows.accepts, pool.serving)))

    def _serve_manager(self, manager: ServiceManager) -> None:
        self._program.context.service_manager = manager
        self._program.context.start_manager()
        if self.ready_text:
            manager.ready(self.ready_text)
