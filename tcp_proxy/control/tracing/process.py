"""The process that exports traces, as the supervisor sees it: started, replaced when it dies or hangs, let go at the end.

Main thread only. Owns the child, and the end of the socket that it reads. Nothing that it does or fails to do has an effect
on traffic.

    IDLE ──start()──> RUNNING ──it ends──> WAITING (a back-off) ──> RUNNING …
    any ──stop()──> told that there is no more; it has LAST_WAIT to send what it has ──> gone
"""

import logging
import select
import socket
from typing import Any

from tcp_proxy.config.log_model import Tracing
from tcp_proxy.control.processes.spawned import Spawned
from tcp_proxy.control.processes.workers import Child
from tcp_proxy.control.tracing.output import TraceOutput
from tcp_proxy.runtime.loop import Loop
from tcp_proxy.wire.messages import ExportTraces, FlushTraces, Logged, Message, Ready, SpansExported

logger = logging.getLogger(__name__)

MODULE = "tcp_proxy.control.trace_exporter.server"
BACKOFF_FIRST, BACKOFF_MOST = 0.2, 10.0  # seconds
HEALTHY_AFTER = 10.0  # seconds
FLUSH_WITHIN = 2.0  # seconds that the exporter takes for what it has at the end
LAST_WAIT = FLUSH_WITHIN + 0.5


class TraceProcess:
    """`output` is what the access log writes to."""

    def __init__(self, loop: Loop, tracing: Tracing, log_level: str, output: TraceOutput) -> None:
        self._loop = loop
        self._order = ExportTraces(
            tracing.endpoint, tracing.service_name, tracing.headers, tracing.timeout, tracing.ca or "", log_level
        )
        self._output = output
        self._socket: socket.socket = output.exporter_end
        self._child: Child | None = None
        self._wait = 0.0
        self._is_stopped = False
        self._exported = self._dropped = 0  # by exporters that have ended
        self._last = SpansExported(0, 0)  # of the one that runs

    def __repr__(self) -> str:
        return f"<TraceProcess to {self._order.endpoint} {self._child!r}>"

    def start(self) -> None:
        if self._is_stopped:
            return
        try:
            spawned = Spawned(MODULE, (self._socket.fileno(),))
            try:
                self._child = Child(self._loop, "trace exporter", spawned, self._received, self._ended)
            except OSError:
                spawned.discard()
                raise
        except OSError as error:
            logger.error("the trace exporter cannot be started: %s", error)  # noqa: TRY400
            self._again(max(BACKOFF_FIRST, self._wait))
            return
        self._child.send(self._order)

    def stop(self) -> None:
        """When the last line was written. Waits for what is on its way, not for a collector that takes nothing."""
        self._is_stopped = True
        child, self._child = self._child, None
        if child is not None:
            child.send(FlushTraces(FLUSH_WITHIN))
            ended = select.poll()
            ended.register(child.pidfd, select.POLLIN)
            ended.poll(LAST_WAIT * 1000)
            child.discard()
        self._socket.close()

    def statistics(self) -> dict[str, Any]:
        dropped = self._dropped + self._last.dropped + self._output.dropped
        return {"exported": self._exported + self._last.exported, "dropped": dropped, "failing": self._last.failing}

    def _received(self, child: Child, message: Message) -> None:
        match message:
            case SpansExported():
                self._last = message
            case Ready():
                child.is_ready = True
                logger.debug("trace exporter (pid %d) runs", child.pid)
            case Logged():
                logger.log(message.level, "traces: %s", message.text)
            case _:  # a Pong has done its work by being heard
                pass

    def _ended(self, child: Child, explanation: str) -> None:
        self._child = None
        self._exported += self._last.exported
        self._dropped += self._last.dropped
        self._last = SpansExported(0, 0)
        if child.has_wrong_version:
            logger.error("trace exporter: the installed tcp_proxy is another version than the one that runs: restart needed")
            return
        logger.error("trace exporter (pid %d) ended: %s; another one is started", child.pid, explanation)
        if self._loop.now - child.started >= HEALTHY_AFTER:
            self._wait = 0.0
        self._again(self._wait)

    def _again(self, wait: float) -> None:
        self._wait = min(BACKOFF_MOST, max(BACKOFF_FIRST, wait * 2))
        self._loop.call_later(wait, self.start)
