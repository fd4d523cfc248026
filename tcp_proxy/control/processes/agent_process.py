"""The process of the cluster agent, as the supervisor sees it: started, listened to, replaced when it dies or hangs.

Main thread only. Owns the child. Nothing that it does or fails to do has an effect on traffic.

    IDLE ──start()──> RUNNING ──it ends──> WAITING (a back-off) ──> RUNNING …
    RUNNING ──leave()──> LEAVING ──it ends, or LEAVE_WITHIN is over──> left()
    any ──stop()──> gone

One whose order says that it waits is started again as one that waits, until `take`. From `hold()` to `release()` none is
started: it would be another node than the one that somebody else is about to be.
"""

import dataclasses
import logging
import socket
from collections.abc import Callable
from typing import Any

from tcp_proxy.control.processes.spawned import Spawned
from tcp_proxy.control.processes.workers import Child
from tcp_proxy.runtime.loop import Loop
from tcp_proxy.wire.cluster import (
    ChangeShared,
    ClusterNews,
    CopyRead,
    HoldWrites,
    JoinCluster,
    LeaveCluster,
    Publish,
    ReleaseWrites,
    Shared,
    SharedChanged,
    TakeLease,
    WritesHeld,
)
from tcp_proxy.wire.messages import Logged, Message, Ready

logger = logging.getLogger(__name__)

MODULE = "tcp_proxy.control.cluster_agent.server"
BACKOFF_FIRST, BACKOFF_MOST = 0.2, 10.0  # seconds
HEALTHY_AFTER = 10.0  # seconds
LEAVE_WITHIN = 2.0  # seconds; the agent itself takes 1 at most


class AgentProcess:
    """`news(ClusterNews)` for each; `ended()` when there is no agent for the moment; `tables()` gives each agent its end of
    the wire to the stick tables. `shared(message)` is told what it says of shared values, `begun()` that there is another
    agent."""

    def __init__(
        self,
        loop: Loop,
        order: JoinCluster,
        news: Callable[[ClusterNews], Any],
        ended: Callable[[], Any],
        tables: Callable[[], socket.socket],
    ) -> None:
        self._loop = loop
        self._tables = tables
        self.shared: Callable[[Shared | SharedChanged], Any] = _ignore
        self.begun: Callable[[], Any] = _nothing
        self.read: Callable[[], Any] = _nothing  # one that waits has read all there is
        self.held: Callable[[WritesHeld], Any] = _ignore
        self.order = order
        self._news, self._on_end = news, ended
        self._left: Callable[[], Any] | None = None
        self._child: Child | None = None
        self._wait = 0.0
        self._is_stopped = self._is_held = self._is_due = False
        self.starts = 0

    def __repr__(self) -> str:
        return f"<AgentProcess of {self.order.node} {self._child!r}>"

    @property
    def pid(self) -> int:
        """0: there is none just now."""
        return self._child.pid if self._child is not None else 0

    def start(self) -> None:
        if self._is_stopped:
            return
        if self._is_held:
            self._is_due = True
            return
        try:
            with self._tables() as wire:
                spawned = Spawned(MODULE, (wire.fileno(),))
            try:
                self._child = Child(self._loop, "cluster agent", spawned, self._received, self._ended)
            except OSError:
                spawned.discard()
                raise
        except OSError as error:
            logger.error("the cluster agent cannot be started: %s", error)  # noqa: TRY400
            self._again(max(BACKOFF_FIRST, self._wait))
            return
        self.starts += 1
        self._child.send(self.order)
        self.begun()

    def hold(self) -> None:
        """It is to write nothing more, and to say so (`held`)."""
        self._is_held = True
        self.send(HoldWrites())

    def release(self) -> None:
        self._is_held = False
        self.send(ReleaseWrites())
        if self._is_due:  # it has ended meanwhile
            self._is_due = False
            self.start()

    def send(self, message: Publish | ChangeShared | HoldWrites | ReleaseWrites | TakeLease) -> None:
        """Nothing happens while there is none."""
        if self._child is not None:
            self._child.send(message)

    def take(self, message: TakeLease) -> None:
        """It has waited for that; one that is started after it does not wait, and has a lease of its own."""
        self.order = dataclasses.replace(self.order, waits=False)
        self.send(message)

    def leave(self, left: Callable[[], Any]) -> None:
        """It takes this node out of the cluster and ends; `left()` is called then, or when it takes too long."""
        if self._child is None:
            self._is_stopped = True
            left()
            return
        self._left = left
        self._child.send(LeaveCluster())
        self._loop.call_later(LEAVE_WITHIN, self._gone)

    def stop(self) -> None:
        self._is_stopped = True
        if self._child is not None:
            self._child.discard()
            self._child = None

    def _received(self, child: Child, message: Message) -> None:
        match message:
            case ClusterNews():
                self._news(message)
            case Shared() | SharedChanged():
                self.shared(message)
            case CopyRead():
                self.read()
            case WritesHeld():
                self.held(message)
            case Ready():
                child.is_ready = True
                logger.debug("cluster agent (pid %d) runs", child.pid)
            case Logged():
                logger.log(message.level, "cluster agent: %s", message.text)
            case _:  # a Pong has done its work by being heard
                pass

    def _ended(self, child: Child, explanation: str) -> None:
        self._child = None
        if self._left is not None:
            self._gone()
            return
        self._on_end()
        if child.has_wrong_version:
            logger.error("cluster agent: the installed tcp_proxy is another version than the one that runs: restart needed")
            return
        logger.error("cluster agent (pid %d) ended: %s; another one is started", child.pid, explanation)
        if self._loop.now - child.started >= HEALTHY_AFTER:
            self._wait = 0.0
        self._again(self._wait)

    def _gone(self) -> None:
        left, self._left = self._left, None
        if left is not None:
            self.stop()
            left()

    def _again(self, wait: float) -> None:
        self._wait = min(BACKOFF_MOST, max(BACKOFF_FIRST, wait * 2))
        self._loop.call_later(wait, self.start)


def _ignore(_message: Any) -> None:
    """Nobody wants to know."""


def _nothing() -> None:
    """Nobody has anything for it."""
