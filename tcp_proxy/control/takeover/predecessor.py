"""The program that is taken over from: one connection of one that wants to, from its first word to the last.

Main thread only. It answers questions, in the order that takeover.steps draws, and waits for nothing but its loop.

    GREETING ──hello──> GREETED ──state──> FREEZING ──all is held──> FROZEN ──last──> PAUSING ──> PAUSED ──taken──> GIVEN
    any before GIVEN ──the other ends, is silent for too long, says something else──> OVER, and everything goes on

Always true (test_predecessor): nothing is let go of before `taken` has come; when it is OVER, it will never come.
"""

import contextlib
import logging
import os
from collections.abc import Callable
from enum import Enum, auto
from typing import Any

from tcp_proxy import __version__
from tcp_proxy.control.takeover.connection import (
    MOST_DESCRIPTORS,
    UNDERSTOOD,
    Connection,
    Ended,
    Message,
    close_all,
    put_in_memory,
)
from tcp_proxy.control.takeover.freeze import Freeze
from tcp_proxy.control.takeover.giving import Descriptors, Last, View, state_of
from tcp_proxy.control.takeover.program import Program
from tcp_proxy.control.takeover.steps import Step, reach
from tcp_proxy.runtime.loop import READ
from tcp_proxy.wire import counters

logger = logging.getLogger(__name__)

SILENT = 20.0  # seconds between two questions: the new program hangs
SHORTEST = 1.0  # seconds that it has, however short the lease of a node is
LOOK = 0.01  # seconds


class Stage(Enum):
    GREETING = auto()
    GREETED = auto()
    FREEZING = auto()
    FROZEN = auto()
    PAUSING = auto()
    PAUSED = auto()
    GIVEN = auto()
    OVER = auto()


class Predecessor:
    """`over(self)` once, at GIVEN or OVER."""

    def __init__(
        self, program: Program, connection: Connection, pid: int, over: Callable[["Predecessor"], Any]
    ) -> None:
        self.stage = Stage.GREETING
        self.why = ""  # it is OVER
        self.pid = pid
        self._program = program
        self._loop = program.context.loop
        self._connection = connection
        self._over = over
        self._version = "unknown"
        self._freeze = Freeze(program, self._held)
        self._last = Last(program, self._paused)
        self._told: dict[str, Descriptors] = {}
        self._silent_for = SILENT
        self._timer = self._loop.call_later(SILENT, self._silent)
        self._loop.watch(connection.fileno(), READ, lambda _events: self._ready())

    def __repr__(self) -> str:
        return f"<Predecessor of {self.pid}, {self.stage.name}>"

    def stop(self, why: str) -> None:
        """We end, or somebody wants it: it is over, unless it is too late for that."""
        if self.stage in (Stage.GIVEN, Stage.OVER):
            return
        self._connection.refuse_more()
        self._read_all()
        self._fail(why)

    # -- what is asked

    def _ready(self) -> None:
        try:
            received = self._connection.receive()
            if received is not None:
                message, descriptors = received
                close_all(descriptors)  # nothing that it says has any
                self._hear(message)
        except Ended as ended:
            self._fail(str(ended))
        except (ValueError, TypeError) as error:
            self._fail(f"it says what nobody understands: {error}")

    def _read_all(self) -> None:
        """What had come before nothing more could."""
        while self.stage not in (Stage.GIVEN, Stage.OVER):
            try:
                received = self._connection.receive()
                if received is None:
                    return
                close_all(received[1])
                if received[0]["is"] == "taken":
                    self._hear(received[0])
            except Ended:
                return

    def _hear(self, message: Message) -> None:
        self._wait()
        match self.stage, message["is"]:
            case Stage.GREETING, "hello":
                self._greet(message)
            case Stage.GREETED, "state":
                self.stage = Stage.FREEZING
                self._freeze.begin()
            case Stage.FROZEN | Stage.PAUSED, "descriptors":
                self._lend(str(message.get("of")), int(message.get("from", 0)))
            case Stage.FROZEN, "last":
                self.stage = Stage.PAUSING
                self._last.node = str(message.get("node", ""))
                self._pause()
            case Stage.PAUSED, "taken":
                self._give()
            case _, "failed":
                self._fail(str(message.get("why")))
            case _, kind:
                self._fail(f"it says {kind!r:.40} where that has no place")

    def _wait(self) -> None:
        """For what it says next. A node whose agent is held has to have its lease kept again, by one of the two, in time."""
        self._silent_for, node = SILENT, self._program.context.cluster
        if node is not None and node.is_held:
            left = node.news.until - self._loop.now - node.lease / 3
            self._silent_for = min(SILENT, max(SHORTEST, left))
        self._timer.cancel()
        self._timer = self._loop.call_later(self._silent_for, self._silent)

    def _greet(self, message: Message) -> None:
        self._version = str(message.get("version"))
        wanted = message.get("versions")
        versions = sorted(set(UNDERSTOOD) & set(wanted if isinstance(wanted, list) else ()))
        if not versions:
            self._fail(f"tcp_proxy {self._version} and {__version__} have no version of the take-over in common")
        elif message.get("layout") != counters.LAYOUT:
            self._fail(f"tcp_proxy {self._version} counts in another layout than {__version__}: a restart is needed")
        else:
            self.stage = Stage.GREETED
            self._connection.send("welcome", protocol=versions[-1], version=__version__, pid=os.getpid())
            reach(Step.GREETED)

    def _held(self, why: str) -> None:
        if why:
            self._fail(why)
            return
        self.stage = Stage.FROZEN
        logger.info("process %d (version %s) is about to take over", self.pid, self._version)
        descriptors = self._told["state"] = Descriptors()
        try:
            view = state_of(self._program, descriptors)
        except OSError as error:
            self._fail(str(error))
            return
        self._answer("state", view, descriptors)
        reach(Step.FROZEN)

    def _pause(self) -> None:
        if self.stage is not Stage.PAUSING:
            return
        if self._last.is_possible:
            self._last.begin()
        else:
            self._loop.call_later(LOOK, self._pause)

    def _paused(self, view: View, descriptors: Descriptors) -> None:
        self.stage = Stage.PAUSED
        self._wait()
        self._answer("last", view, descriptors)
        reach(Step.PAUSED)

    def _answer(self, kind: str, view: View, descriptors: Descriptors) -> None:
        self._told[kind] = descriptors
        try:
            fd = put_in_memory(view)
            try:
                self._connection.send(kind, [fd], count=len(descriptors))
            finally:
                os.close(fd)
        except (Ended, OSError) as error:
            self._fail(str(error))

    def _lend(self, of: str, first: int) -> None:
        some = self._told.get(of, Descriptors())[first : first + MOST_DESCRIPTORS]
        self._connection.send("descriptors", some)

    # -- its end

    def _give(self) -> None:
        """The point of no return, as it is heard here."""
        self.stage = Stage.GIVEN
        reach(Step.LEFT)
        text = f"process {self.pid} (version {self._version}) has taken over"
        manager = self._program.context.service_manager
        manager.hand_over(self.pid, text)
        manager.close()  # when that is told: the new one, which begins with our end, is not heard before
        try:
            self._last.give()
            self._end()
        finally:  # else all that is theirs would be ended as ours
            self._program.given_away(text)

    def _silent(self) -> None:
        self.stop(f"it has said nothing for {self._silent_for:.3g} s")

    def _fail(self, why: str) -> None:
        if self.stage in (Stage.GIVEN, Stage.OVER):
            return
        with contextlib.suppress(Ended):
            self._connection.send("refused", why=why)
        was_frozen = self.stage in (Stage.FROZEN, Stage.PAUSING, Stage.PAUSED)
        self.stage, self.why = Stage.OVER, why
        logger.warning("process %d (version %s) does not take over: %s; all goes on here", self.pid, self._version, why)
        self._last.resume()
        if was_frozen:
            self._program.context.counter_rows.clear_unassigned()
        self._freeze.release()
        self._end()

    def _end(self) -> None:
        self._timer.cancel()
        self._loop.unwatch(self._connection.fileno())
        self._connection.close()
        for descriptors in self._told.values():
            descriptors.close()
        self._over(self)
