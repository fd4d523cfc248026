"""Everything that changes what is handed over is held, as long as another program is about to take over.

Main thread only. Traffic does not notice: the workers go on, and what they say is heard. What waits is what would be another
state than the one that was told: reloads and orders, findings of checks, elections, workers that start.

    IDLE ──begin()──> WAITING (a reload, an election is under way) ──> FROZEN ──release()──> IDLE, and all that is done
                         └──WITHIN is over──> IDLE, with what stands in the way
"""

from collections.abc import Callable
from typing import Any

from tcp_proxy.control.changes.reload import Stage
from tcp_proxy.control.takeover.program import Program
from tcp_proxy.runtime.loop import Timer

WITHIN = 10.0  # seconds that what is under way may take
LOOK = 0.02  # seconds


class Freeze:
    """`done(why)` once: "" when all is held, else what stands in the way."""

    def __init__(self, program: Program, done: Callable[[str], Any]) -> None:
        self._program = program
        self._loop = program.context.loop
        self._done = done
        self._timer: Timer | None = None
        self._until = self._loop.now + WITHIN
        self.is_frozen = self._is_wanted = False

    def __repr__(self) -> str:
        return f"<Freeze {'frozen' if self.is_frozen else 'waiting'}>"

    def begin(self) -> None:
        self._program.reload.is_held = self._is_wanted = self._program.context.session_moves.is_held = True
        self._look()

    def _look(self) -> None:
        why = self._in_the_way()
        if not why:
            self._timer = None
            self._program.context.slices.when_idle(self._freeze)
        elif self._loop.now < self._until:
            self._timer = self._loop.call_later(LOOK, self._look)
        else:
            self._give_up(why)

    def _in_the_way(self) -> str:
        program, context = self._program, self._program.context
        if context.is_stopping:
            return "it is ending"
        if not context.is_serving:
            return "it does not serve yet"
        if program.reload.stage is not Stage.IDLE:
            return "it is reading its configuration again"
        if app := program.failovers.busy:
            return f"app {app} looks for a primary"
        if context.session_moves.is_busy:
            return "sessions move from one of its workers to another"
        if any(not worker.is_introduced for worker in context.worker_pool):
            return "a worker is starting"
        return ""

    def _freeze(self) -> None:
        """Nothing is under way in slices. Something else may have begun meanwhile."""
        if not self._is_wanted:  # released before it began
            return
        if self._in_the_way():
            self._look()
            return
        context = self._program.context
        self.is_frozen = True
        context.session_moves.prepare(context.worker_pool)
        context.slices.is_hidden = True
        context.slices.hold()
        context.states.hold()
        for app in context.targets.apps.values():
            app.held = []
        self._done("")

    def _give_up(self, why: str) -> None:
        self.release()
        self._done(why)

    def release(self) -> None:
        """What waited is done, in order. Nothing happens the second time."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        context = self._program.context
        if self.is_frozen:
            self.is_frozen = False
            context.slices.is_hidden = False
            held = [call for app in context.targets.apps.values() for call in app.take_held()]
            context.states.release()
            for call in held:
                call()
            context.slices.release()
        if self._is_wanted:
            self._program.reload.is_held = self._is_wanted = context.session_moves.is_held = False
            self._loop.call_soon(self._program.reload.look)
