"""The process of the management API, as the supervisor sees it: started, answered, replaced when it dies.

Main thread only. Owns the child and, with it, the listening socket that it is passed. What it asks goes to the
operations; what it is pushed are the events. Nothing that it does or fails to do has an effect on traffic.

    IDLE ──start()──> RUNNING ──it ends──> WAITING (a back-off) ──> RUNNING …
    any ──stop()──> gone
"""

import json
import logging
from collections.abc import Callable

from tcp_proxy.control.events import Event, Events
from tcp_proxy.control.listeners.api_socket import ApiSocket
from tcp_proxy.control.processes.spawned import Spawned
from tcp_proxy.control.processes.workers import Child
from tcp_proxy.control.replies import Operations
from tcp_proxy.runtime.loop import Loop
from tcp_proxy.wire.messages import Answer, Ask, Happened, Logged, Message, Ready, ServeApi

logger = logging.getLogger(__name__)

MODULE = "tcp_proxy.control.api.server"
BACKOFF_FIRST, BACKOFF_MOST = 0.2, 10.0  # seconds
HEALTHY_AFTER = 10.0  # seconds


class ApiProcess:
    def __init__(
        self, loop: Loop, sock: ApiSocket, operations: Operations, events: Events, log_level: str
    ) -> None:
        """Owns `sock` from now on."""
        self._loop = loop
        self._socket = sock
        self._operations = operations
        self._events = events
        self._level = log_level
        self._child: Child | None = None
        self._unfollow: Callable[[], None] = _nothing
        self._wait = 0.0
        self._is_started = self._is_stopped = False

    def __repr__(self) -> str:
        return f"<ApiProcess on {self._socket.url} {self._child!r}>"

    def start(self) -> None:
        """Nothing happens the second time."""
        if not self._is_started:
            self._is_started = True
            self._spawn()

    @property
    def socket(self) -> ApiSocket:
        return self._socket

    def stop(self, *, is_given: bool = False) -> None:
        """`is_given`: the socket is another program's."""
        if is_given:
            self._socket.let_go()
        self._is_stopped = True
        self._unfollow()
        if self._child is not None:
            self._child.discard()
            self._child = None
        self._socket.close()

    def _spawn(self) -> None:
        if self._is_stopped:
            return
        try:
            spawned = Spawned(MODULE, (self._socket.sock.fileno(),))
            try:
                self._child = Child(self._loop, "management API", spawned, self._received, self._ended)
            except OSError:
                spawned.discard()
                raise
        except OSError as error:
            logger.error("the management API cannot be started: %s", error)  # noqa: TRY400
            self._again(max(BACKOFF_FIRST, self._wait))
            return
        api = self._socket.api
        self._child.send(ServeApi(str(api.listen), api.token_file, api.hosts, self._level))

    def _received(self, child: Child, message: Message) -> None:
        match message:
            case Ask():
                self._operations.ask(message.operation, message.arguments, _Reply(child, message.number))
            case Ready():
                child.is_ready = True
                self._unfollow = self._events.observe(self._happened)
                logger.info("management API on %s (pid %d)", self._socket.url, child.pid)
            case Logged():
                logger.log(message.level, "management API: %s", message.text)
            case _:  # a Pong has done its work by being heard
                pass

    def _happened(self, event: Event) -> None:
        if self._child is not None:
            self._child.send(Happened(event.number, event.at, event.kind, json.dumps(event.data)))

    def _ended(self, child: Child, explanation: str) -> None:
        self._unfollow()
        self._unfollow = _nothing
        self._child = None
        if child.has_wrong_version:
            logger.error("management API: the installed tcp_proxy is another version than the one that runs: restart needed")
            return
        logger.error("management API (pid %d) ended: %s; another one is started", child.pid, explanation)
        if self._loop.now - child.started >= HEALTHY_AFTER:
            self._wait = 0.0
        self._again(self._wait)

    def _again(self, wait: float) -> None:
        self._wait = min(BACKOFF_MOST, max(BACKOFF_FIRST, wait * 2))
        self._loop.call_later(wait, self._spawn)


def _nothing() -> None:
    """Nobody follows."""


class _Reply:
    """The way back of one question; the process that asked may be gone by then."""

    def __init__(self, child: Child, number: int) -> None:
        self._child = child
        self._number = number

    def __call__(self, status: int, text: str, *, more: bool = False) -> None:
        self._child.send(Answer(self._number, status, text, more))
