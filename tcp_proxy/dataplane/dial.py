"""Finding a session a target that answers: non-blocking connects, one after another, until one succeeds.

Owned by the worker's loop thread. A Dial owns the connecting socket until it hands it over by `connected`, and the
target's token (max_connections) likewise.

    CHOOSING ──> CONNECTING ──connected──> (done: socket and token are the owner's)
       ^  │none     │ refused, unreachable, `timeouts.connect` over (until then a UNIX target's full queue is asked again)
       │  │         v
       │  │      next address of this target's name, else the next eligible target, at most `retries` further ones
       │  │         │ only this target is there: once more
       │  v         v
       │ (failed)  WAITING 100 ms ──> CHOOSING
    any state ── cancel() ──> (released, nobody is told)

Always true: the whole takes at most twice `timeouts.connect` (test_dial_ends_after_twice_connect); an error of this
machine (EMFILE, EADDRNOTAVAIL …) is counted apart and asks for no probe (DESIGN 9.8).
"""

import errno
import socket
from socket import SocketType
from typing import Any, Protocol

from tcp_proxy.counters import RETRIES
from tcp_proxy.dataplane.apps import LiveApp, LiveTarget
from tcp_proxy.loop import EDGE, FAILED, WRITE, Loop, Timer
from tcp_proxy.messages import Endpoint
from tcp_proxy.sansio.reasons import Reason, errno_name, is_local
from tcp_proxy.socket_options import FIRST_OPTIONS, UNIX_OPTIONS, WITH_FIRST_BYTES

AGAIN_AFTER = 0.1  # seconds before a lone target is tried once more
QUEUE_FIRST, QUEUE_MOST = 0.01, 0.1  # seconds between two tries to get into the full queue of a UNIX target
_STREAM = socket.SOCK_STREAM | socket.SOCK_NONBLOCK
_SEND_FLAGS = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL


class DialOwner(Protocol):
    def connected(self, sock: SocketType, events: int) -> Any: ...
    def dial_failed(self, reason: Reason, code: int) -> Any: ...
    def deadline_set(self, when: float) -> Any: ...


class Dial:
    """One client's search. `tried` lists (target name, why it failed) in order; `target` is the one at hand.

    `first` is what the client has said already, `sent` how much of it the socket that `connected` hands over has taken.
    """

    __slots__ = (
        "app", "cut", "deadline", "end", "endpoints", "excluded", "first", "key", "last_code", "loop", "owner", "sent",
        "sock", "target", "timer", "tried",
    )  # fmt: skip

    def __init__(self, loop: Loop, owner: DialOwner, app: LiveApp, key: bytes, first: bytes = b"") -> None:
        self.loop = loop
        self.owner = owner
        self.app = app
        self.key = key
        self.first = first
        self.sent = 0
        self.tried: list[tuple[str, str]] = []
        self.excluded: set[LiveTarget] | None = None
        self.target: LiveTarget | None = None
        self.endpoints: list[Endpoint] | None = None
        self.sock: SocketType | None = None
        self.timer: Timer | None = None
        self.last_code = 0
        self.cut = 0  # target.cut when it was chosen
        connect = app.timeouts.connect
        self.deadline = loop.now + connect
        self.end = loop.now + 2 * connect

    def __repr__(self) -> str:
        return f"<Dial {self.app.name} to {self.target.name if self.target else None}, tried {len(self.tried)}>"

    def start(self) -> None:
        """Try until something is connecting, connected, or nothing is left. The owner may be told before it returns."""
        while True:
            target = self.app.choose(self.key, self.loop.now, self.excluded)
            if target is None:
                self._nothing_left()
                return
            if self._try_target(target):
                return
            if not self._may_try_another(target):
                return

    def begin(self, target: LiveTarget) -> None:
        """The same, with a target first that the owner has chosen and taken."""
        if not self._try_target(target) and self._may_try_another(target):
            self.start()

    def cancel(self) -> None:
        """The client has gone, or the worker ends."""
        self._close_socket()
        if self.target is not None:
            self.target.give(self.app.row)
            self.target = None
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    def timed_out(self) -> None:
        """The owner's clock says that `deadline` is over."""
        if self.target is None:  # WAITING
            self.owner.dial_failed(Reason.CONNECT_FAILED, self.last_code)
            return
        if self.timer is not None:  # in a UNIX target's line
            self.timer.cancel()
            self.timer = None
        self._attempt_failed(errno.ETIMEDOUT)
        self._go_on()

    # -- one attempt

    def _try_target(self, target: LiveTarget) -> bool:
        self.target = target
        self.cut = target.cut
        if self.tried:
            self._count_retry()
        endpoint, self.endpoints = target.endpoints_to_try()
        return self._connect(endpoint) or self._next_endpoint()

    def _connect(self, endpoint: Endpoint, waited: float = 0.0) -> bool:
        """Whether a connect is under way or done. `waited`: seconds since the last try to get into a UNIX target's queue."""
        family, address = endpoint
        is_unix = family == socket.AF_UNIX
        assert self.target is not None
        near = self.first and self.target.is_near
        self.sent = 0
        try:
            sock = self.sock = SocketType(family, _STREAM)
            for level, option, value in UNIX_OPTIONS if is_unix else WITH_FIRST_BYTES if self.first else FIRST_OPTIONS:
                sock.setsockopt(level, option, value)
            code = sock.connect_ex(address)
            if code == errno.EINPROGRESS and near:  # in truth done: spares an event, and the target a second wake-up
                self.sent = sock.send(self.first, _SEND_FLAGS)
                code = 0
        except BlockingIOError:
            code = errno.EINPROGRESS
        except OSError as error:
            code = error.errno or errno.EINVAL
        if code == 0:
            if self.target.may_be_ourselves:
                return self._succeed(0)
            self.sock = None
            self.owner.connected(sock, 0)
            return True
        if code == errno.EINPROGRESS:
            self.loop.watch(sock.fileno(), EDGE, self._ready)
            self._set_deadline()
            return True
        if code == errno.EAGAIN and family == socket.AF_UNIX:  # its queue is full: TCP would wait in the kernel
            self._close_socket()
            if not waited:
                self._set_deadline()
            wait = min(max(2 * waited, QUEUE_FIRST), QUEUE_MOST)
            self.timer = self.loop.call_later(wait, self._queue_again, endpoint, wait)
            return True
        self._attempt_failed(code)
        return False

    def _queue_again(self, endpoint: Endpoint, waited: float) -> None:
        self.timer = None
        if not self._connect(endpoint, waited):
            self._go_on()

    def _set_deadline(self) -> None:
        self.deadline = min(self.loop.now + self.app.timeouts.connect, self.end)
        self.owner.deadline_set(self.deadline)

    def _ready(self, events: int) -> None:
        sock = self.sock
        assert sock is not None
        if events & FAILED:
            code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code:  # none: it connected, and the target has already hung up, perhaps after an answer
                self._attempt_failed(code)
                self._go_on()
                return
        elif not events & WRITE:
            return
        if not self._succeed(events):
            self._go_on()

    def _succeed(self, events: int) -> bool:
        sock, target = self.sock, self.target
        assert sock is not None
        assert target is not None
        if target.may_be_ourselves and sock.getsockname() == sock.getpeername():
            # Nobody listens there: the kernel had chosen that very port for our end, and TCP met itself (RFC 9293, 3.5).
            self._attempt_failed(errno.ECONNREFUSED)
            return False
        self.sock = None
        self.owner.connected(sock, events)
        return True

    def _attempt_failed(self, code: int) -> None:
        self._close_socket()
        target = self.target
        assert target is not None
        self.last_code = code
        self.tried.append((target.name, errno_name(code)))
        self.app.connect_failed(target, code, is_local(code), self.loop.now)

    # -- what comes next

    def _go_on(self) -> None:
        target = self.target
        assert target is not None
        if self._next_endpoint():
            return
        if self._may_try_another(target):
            self.start()

    def _next_endpoint(self) -> bool:
        """Try the other addresses of this target's name. Whether one of them is under way."""
        while self.endpoints and self.loop.now < self.end:
            self._count_retry()
            if self._connect(self.endpoints.pop()):
                return True
        return False

    def _may_try_another(self, target: LiveTarget) -> bool:
        """Whether to choose again now; otherwise the owner was told, or will be by the timer."""
        target.give(self.app.row)
        self.target = None
        parking = self.app.parking
        if parking is not None and parking.takes(Reason.CONNECT_FAILED, self.last_code):
            self.owner.dial_failed(Reason.CONNECT_FAILED, self.last_code)
            return False
        if self.excluded is None:
            self.excluded = set()
        again = target in self.excluded
        self.excluded.add(target)
        retries_left = self.app.retries - len(self.excluded) + 1 - again
        if self.loop.now >= self.end or retries_left <= 0:
            self.owner.dial_failed(Reason.CONNECT_FAILED, self.last_code)
            return False
        if len(self.excluded) == 1 and not again and self.app.is_alone(target):
            self.deadline = self.end
            self.owner.deadline_set(self.end)
            self.timer = self.loop.call_later(AGAIN_AFTER, self._once_more)
            return False
        return True

    def _once_more(self) -> None:
        """The lone target, a second time; it stays in `excluded`, which makes this attempt its last."""
        self.timer = None
        assert self.excluded is not None
        (target,) = self.excluded
        if not self.app.retake(target):
            self.start()  # it has gone down in between, but perhaps another has come up
        elif not self._try_target(target) and self._may_try_another(target):
            self.start()

    def _nothing_left(self) -> None:
        if self.tried:
            self.owner.dial_failed(Reason.CONNECT_FAILED, self.last_code)
        else:
            self.owner.dial_failed(self.app.why_none(), 0)

    def _count_retry(self) -> None:
        assert self.target is not None
        self.app.row[self.target.slot + RETRIES] += 1

    def _close_socket(self) -> None:
        sock, self.sock = self.sock, None
        if sock is not None:
            if self.loop.is_watched(sock.fileno()):
                self.loop.unwatch(sock.fileno())
            self.loop.close_after_batch(sock)
