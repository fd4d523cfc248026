"""One thread's event loop: epoll, timers, and the one way into it from other threads.

Control and dataplane use it: a worker's main thread, each relay thread, the supervisor's main thread and each health thread
own one Loop each. Only the owning thread may call anything but `call_soon` and `stop_soon`, which any thread may call.

Always true:
- `now` is read from the clock once per poll; nobody else in the program asks the clock (test_house), but for `this_moment`;
- `call_soon` returns True exactly when the call will be made (after `close` it returns False): nothing is lost in between;
- one pass over the queue is bounded, so that calls which queue calls cannot starve the sockets;
- a descriptor given to `close_after_batch` is closed only when no event of the current batch can still name it, so a
  reused number never receives a stale event (docs/rules.md, R3).
"""

import heapq
import os
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final, Protocol

from tcp_proxy.runtime.stream_socket import StreamSocket

# One registration per socket for its whole life: edge-triggered, both ways, the peer's FIN, urgent data (docs/rules.md, R1).
EDGE: Final = select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLPRI | select.EPOLLET
# The same, for a socket that nobody waits to write to: a fresh one would be reported as writable at once, for nothing.
QUIET_EDGE: Final = EDGE & ~select.EPOLLOUT
READ: Final = select.EPOLLIN
WRITE: Final = select.EPOLLOUT
RDHUP: Final = select.EPOLLRDHUP
FAILED: Final = select.EPOLLERR | select.EPOLLHUP

MAX_EVENTS: Final = 256  # a batch; more would make the first session of a batch wait for the last


class Closable(Protocol):
    def close(self) -> Any: ...


class _Then:
    """A place among what is closed after a batch."""

    __slots__ = ("close",)

    def __init__(self, call: Callable[[], Any]) -> None:
        self.close = call


class Timer:
    """One call in the future; `cancel` makes it a no-op that the heap drops when its time comes."""

    __slots__ = ("args", "call", "when")

    def __init__(self, when: float, call: Callable[..., Any] | None, args: tuple[Any, ...]) -> None:
        self.when = when
        self.call = call
        self.args = args

    def __lt__(self, other: "Timer") -> bool:
        return self.when < other.when

    def __repr__(self) -> str:
        return f"<Timer {getattr(self.call, '__qualname__', 'cancelled')} at {self.when:.3f}>"

    def cancel(self) -> None:
        self.call = None
        self.args = ()


def this_moment() -> float:
    """What `Loop.now` would be if it were asked of the clock: for what must hold when the process has stood still since."""
    return time.monotonic()


class Loop:
    """A selector made for the byte path. `clock` returns seconds that never go back; tests pass one they can turn."""

    def __init__(self, name: str = "loop", clock: Callable[[], float] = time.monotonic) -> None:
        self.name = name
        self.now = clock()
        self._clock = clock
        self._epoll = select.epoll()
        self._handlers: dict[int, Callable[[int], Any]] = {}
        self._timers: list[Timer] = []
        self._calls: deque[tuple[Callable[..., Any], tuple[Any, ...]]] = deque()
        self._again: list[Callable[[int], Any]] = []
        self._closing: list[Closable] = []
        self.round = 0  # so many batches of events there have been
        self._batch: list[tuple[int, int]] | None = None  # the one at hand
        self._batch_fds: set[int] = set()  # of whom the one is in which somebody has asked last
        self._asked_in = -1  # `round` of that
        # A handler, call or timer raised: this ends the loop; a worker's ends only the session that it belongs to.
        self.on_error: Callable[[Callable[..., Any], Exception], Any] = _raise
        self._running = True
        self._closed = False
        # Guards _closed and _wake_fd against close(): the number of a closed descriptor may be a client's by now.
        self._wake_lock = threading.Lock()
        self._wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll.register(self._wake_fd, READ)
        self._handlers[self._wake_fd] = self._woken

    def __repr__(self) -> str:
        state = "closed" if self._closed else "running" if self._running else "stopping"
        return f"<Loop {self.name} {state} watching {len(self._handlers) - 1}, {len(self._timers)} timers>"

    # -- descriptors: the owning thread only ------------------------------------------------------------------------

    def watch(self, fd: int, events: int, handler: Callable[[int], Any]) -> None:
        """Call `handler(events)` whenever epoll reports `fd`; an error or hang-up is always reported."""
        self._epoll.register(fd, events)
        self._handlers[fd] = handler

    def rewatch(self, fd: int, events: int) -> None:
        """Change what a watched descriptor is asked for."""
        self._epoll.modify(fd, events)

    def unwatch(self, fd: int) -> None:
        """Forget a descriptor; events of it that are still in the current batch are dropped."""
        del self._handlers[fd]
        self._epoll.unregister(fd)

    def drop(self, sock: socket.socket | StreamSocket) -> None:
        """Forget a socket, watched or not, whose only copy this is, and close it when the current batch is done."""
        self._handlers.pop(sock.fileno(), None)
        self._closing.append(sock)

    def is_watched(self, fd: int) -> bool:
        return fd in self._handlers

    def attend(self, fd: int, events: int, handler: Callable[[int], Any]) -> None:
        """Watch a descriptor, or give one that is watched already another handler."""
        if fd not in self._handlers:
            self._epoll.register(fd, events)
        self._handlers[fd] = handler

    def may_have_news(self, fd: int) -> bool:
        """Whether the batch of events at hand has one of this descriptor, handled or not, or could not hold all there were,
        or there is none. If not, nothing had happened there when the round began."""
        batch = self._batch
        if batch is None or len(batch) == MAX_EVENTS:
            return True
        if self._asked_in != self.round:
            self._asked_in, self._batch_fds = self.round, {named for named, _ in batch}
        return fd in self._batch_fds

    def close_after_batch(self, resource: Closable) -> None:
        """Own `resource` from now on, and close it when the current batch of events is done."""
        self._closing.append(resource)

    def after_batch(self, call: Callable[[], Any]) -> None:
        """Call when what was given to `close_after_batch` and `drop` before is closed. The owning thread only."""
        self._closing.append(_Then(call))

    # -- calls -------------------------------------------------------------------------------------------------------

    def call_later(self, delay: float, call: Callable[..., Any], *args: Any) -> Timer:
        """Call once, `delay` seconds after `now`. The owning thread only."""
        timer = Timer(self.now + delay, call, args)
        heapq.heappush(self._timers, timer)
        return timer

    def call_again(self, handler: Callable[[int], Any]) -> None:
        """Call `handler(0)` in the next round: for an edge-triggered descriptor that has more, out of fairness."""
        self._again.append(handler)

    def call_soon(self, call: Callable[..., Any], *args: Any) -> bool:
        """From any thread: call in the loop's thread, in order. False when the loop is closed and never will."""
        with self._wake_lock:
            if self._closed:
                return False
            self._calls.append((call, args))
            os.eventfd_write(self._wake_fd, 1)
        return True

    def stop_soon(self) -> None:
        """From any thread: `run` returns after the calls queued before this one."""
        self.call_soon(self.stop)

    def stop(self) -> None:
        """`run` returns at the end of the current round."""
        self._running = False

    # -- the loop -----------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Serve until `stop`. Exceptions of what it calls go to `on_error`, which raises them unless told otherwise."""
        while self._running:
            self.run_once()

    def run_once(self, timeout: float | None = None) -> None:
        """One round: wait at most until the next timer (or `timeout`), then events, calls and timers that are due."""
        timers = self._timers
        while timers and timers[0].call is None:
            heapq.heappop(timers)
        if self._again or self._calls or self._closing:
            wait = 0.0
        elif timers:
            # epoll rounds up to a millisecond, so a timer is never polled for in a busy loop just before it is due.
            wait = timers[0].when - self._clock()
            if wait < 0.0:
                wait = 0.0
        else:
            wait = -1.0
        if timeout is not None and (wait < 0 or wait > timeout):
            wait = timeout
        self._batch = events = self._epoll.poll(wait, MAX_EVENTS)
        self.round += 1
        self.now = now = self._clock()
        handlers = self._handlers
        for fd, mask in events:
            handler = handlers.get(fd)
            if handler is not None:
                try:
                    handler(mask)
                except Exception as error:  # noqa: BLE001  one session's bug must not end the others
                    self.on_error(handler, error)
        if self._again or self._calls or self._closing or (timers and timers[0].when <= now):
            self._end_round()
        self._batch = None

    def _end_round(self) -> None:
        """What waited for the end of the batch. In this order: each may leave something to the ones after it."""
        if self._again:
            self._run_again()
        for _ in range(len(self._calls)):
            self._call(*self._calls.popleft())
        self._run_timers()
        closing, self._closing = self._closing, []
        for resource in closing:
            resource.close()

    def close(self) -> None:
        """Make the calls that are still queued, then release everything the loop owns. Sockets stay their owners'."""
        with self._wake_lock:
            if self._closed:
                return
            self._closed = True
        while self._calls:
            self._call(*self._calls.popleft())
        for resource in self._closing:
            resource.close()
        self._closing.clear()
        self._timers.clear()
        self._handlers.clear()
        self._epoll.close()
        os.close(self._wake_fd)

    def _run_timers(self) -> None:
        timers, now = self._timers, self.now
        for _ in range(len(timers)):  # a timer that sets itself again for now has its turn in the next round
            if not timers or timers[0].when > now:
                return
            timer = heapq.heappop(timers)
            if timer.call is not None:
                call, args = timer.call, timer.args
                timer.cancel()
                self._call(call, args)

    def _call(self, call: Callable[..., Any], args: tuple[Any, ...]) -> None:
        try:
            call(*args)
        except Exception as error:  # noqa: BLE001
            self.on_error(call, error)

    def _run_again(self) -> None:
        again, self._again = self._again, []
        for handler in again:
            try:
                handler(0)
            except Exception as error:  # noqa: BLE001
                self.on_error(handler, error)

    def _woken(self, _events: int) -> None:
        os.eventfd_read(self._wake_fd)


def _raise(_handler: Callable[..., Any], error: Exception) -> None:
    raise error
