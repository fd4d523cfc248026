"""Finding a session a target that answers: non-blocking connects, one after another, until one succeeds.

Owned by the worker's loop thread. A Dial owns the connecting socket until it hands it over by `connected`, and the
target's token (max_connections) likewise.

    CHOOSING ──> CONNECTING ──connected──> (SHAKING, a target with TLS) ──> (done: socket and token are the owner's)
       ^  │none     │ refused, unreachable, `timeouts.connect` over (until then a UNIX target's full queue is asked again)
       │  │         │ no TLS: the wrong certificate, no handshake in the same time
       │  │         v
       │  │      next address of this target's name, else the next eligible target, at most `retries` further ones
       │  │         │ only this target is there: once more
       │  v         v
       │ (failed)  WAITING 100 ms ──> CHOOSING
    any state ── cancel() ──> (released, nobody is told)

A target that accepts and resets before the dial is over has refused if it said nothing: the next one has its turn, and if
there is none the reason is `target_reset`. If it has spoken, that is the client's: it was connected to, and the socket keeps
its error for whoever has read that.

What the owner gets of a target with TLS is a TlsSocket; before its handshake is over nothing of the client is sent.

Always true: the whole takes at most twice `timeouts.connect` (test_dial_ends_after_twice_connect); an error of this
machine (EMFILE, EADDRNOTAVAIL …) is counted apart and asks for no probe (docs/rules.md, R8).
"""

import errno
import os
import socket
from collections.abc import Callable, Sequence
from socket import SocketType
from typing import Any, Final, Protocol

from tcp_proxy.dataplane.live_target import LiveTarget
from tcp_proxy.dataplane.place_queue import PlaceQueue
from tcp_proxy.dataplane.proxy_header import header_of
from tcp_proxy.dataplane.relay.session_thread import NEVER
from tcp_proxy.runtime.loop import EDGE, FAILED, READ, WRITE, Loop, Timer
from tcp_proxy.runtime.socket_options import FIRST_OPTIONS, UNIX_OPTIONS, WITH_FIRST_BYTES, has_ended
from tcp_proxy.runtime.stream_socket import StreamSocket
from tcp_proxy.sansio.address import ip_of
from tcp_proxy.sansio.reasons import Attempt, Reason, Side, attempt, errno_name, is_local, reported
from tcp_proxy.wire.counters import RETRIES
from tcp_proxy.wire.views import Endpoint

AGAIN_AFTER: Final = 0.1  # seconds before a lone target is tried once more
QUEUE_FIRST, QUEUE_MOST = 0.01, 0.1  # seconds between two tries to get into the full queue of a UNIX target
_STREAM: Final = int(socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
_SEND_FLAGS: Final = int(socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
_UNIX: Final = int(socket.AF_UNIX)
_IN_PROGRESS: Final = errno.EINPROGRESS


class DialOwner(Protocol):
    def connected(self, sock: StreamSocket, events: int) -> Any: ...
    def dial_failed(self, reason: Reason, code: int) -> Any: ...
    def deadline_set(self, when: float) -> Any: ...
    def kill(self, reason: Reason, side: Side) -> Any: ...

    # whom the dial is for (proxy_header.Introduced)
    number: int
    thread: Any
    client: Any
    address: Any
    origin: Any


class Dial:
    """One client's search. `tried` lists (target name, why it failed) in order; `target` is the one at hand.

    `app` is a LiveApp, or what stands for one (route_targets). `first` is what the client has said already, `sent` how much
    of it the socket that `connected` hands over has taken.
    """

    __slots__ = (
        "app", "cut", "deadline", "end", "endpoints", "excluded", "first", "given", "key", "last_code", "loop", "owner",
        "queue", "sent", "sock", "target", "timer", "tried",
    )  # fmt: skip

    def __init__(self, loop: Loop, owner: DialOwner, app: Any, key: bytes, first: bytes = b"") -> None:
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
        self.sock: StreamSocket | None = None
        self.timer: Timer | None = None
        self.last_code = 0
        self.cut = 0  # target.cut when it was chosen
        self.queue: PlaceQueue | None = None  # in which it waits
        self.given: Callable[[Any, LiveTarget], Any] = Dial.begin  # what is done with a target after that
        connect = app.timeouts.connect
        self.deadline = loop.now + connect
        self.end = loop.now + 2 * connect

    def __repr__(self) -> str:
        return f"<Dial {self.app.name} to {self.target.name if self.target else None}, tried {len(self.tried)}>"

    def has_tried(self, tried: Sequence[tuple[str, str]]) -> None:
        """Before the start: an earlier dial of the same client has tried these."""
        self.tried = list(tried)

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
        if self.queue is not None:
            queue, self.queue = self.queue, None
            queue.leave(self)
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
            self._give_up()
            return
        if self.timer is not None:  # in a UNIX target's line
            self.timer.cancel()
            self.timer = None
        self._attempt_failed(errno.ETIMEDOUT)
        self._go_on()

    # -- in the queue, as a place_queue.Waiter

    def _enqueue(self) -> bool:
        """Whether it waits, or has its target by now, or its client has gone."""
        queue = self.app.queue
        if queue is None or not queue.enter(self, self.app):
            return False
        self.queue = queue
        self.owner.deadline_set(NEVER)
        if not self.has_gone():
            queue.look()
        return True

    def client_ended(self) -> None:
        """The owner has heard that the client sends no more: who waits in the queue has left it."""
        if self.queue is not None:
            self.owner.kill(Reason.CLIENT_GONE, Side.CLIENT)

    def has_gone(self) -> bool:
        if has_ended(self.owner.client):
            self.client_ended()
            return True
        return False

    def take_place(self) -> LiveTarget | None:
        target: LiveTarget | None = self.app.choose_waiting(self.key, self.loop.now)
        return target

    def return_place(self, target: LiveTarget) -> None:
        target.give(self.app.row)

    def place_given(self, target: LiveTarget) -> None:
        self.queue = None
        self.end = self.loop.now + 2 * self.app.timeouts.connect
        self.given(self, target)

    def place_denied(self, reason: Reason) -> None:
        self.queue = None
        self.owner.dial_failed(reason, 0)

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
        is_unix = family == _UNIX
        assert self.target is not None
        sends = self.first or self.target.send_proxy is not None  # as soon as it is connected
        near = sends and self.target.is_near and self.target.cut == self.cut  # not to one that was given up meanwhile
        self.sent = 0
        try:
            sock = self.sock = SocketType(family, _STREAM)
            for level, option, value in UNIX_OPTIONS if is_unix else WITH_FIRST_BYTES if sends else FIRST_OPTIONS:
                sock.setsockopt(level, option, value)
            is_usual = is_unix or self.target.connect is None
            code = sock.connect_ex(address) if is_usual else self._connect_from(self.target, sock, address)
            if code == _IN_PROGRESS and near:  # in truth done: spares an event, and the target a second wake-up
                self._send_first(sock)
                code = 0
            elif code == 0 and self.target.send_proxy is not None and self.target.cut == self.cut:
                self._send_first(sock)
        except BlockingIOError:
            code = _IN_PROGRESS
        except OSError as error:
            code = error.errno or errno.EINVAL
        if code == 0:
            if self.target.tls is not None:
                self._set_deadline()
                return self._succeed(0)
            if self.target.may_be_ourselves:
                return self._succeed(0)
            self.sock = None
            self.owner.connected(sock, 0)
            return True
        if code == _IN_PROGRESS:
            self.loop.watch(sock.fileno(), EDGE, self._ready)
            self._set_deadline()
            return True
        if code == errno.EAGAIN and is_unix:  # its queue is full: TCP would wait in the kernel
            self._close_socket()
            if not waited:
                self._set_deadline()
            wait = min(max(2 * waited, QUEUE_FIRST), QUEUE_MOST)
            self.timer = self.loop.call_later(wait, self._queue_again, endpoint, wait)
            return True
        self._attempt_failed(code)
        return False

    def _connect_from(self, target: LiveTarget, sock: StreamSocket, address: Any) -> int:
        """Not from where the kernel would say."""
        code: int = target.connect(sock, address, ip_of(self.owner.address))
        return code

    def _send_first(self, sock: StreamSocket) -> None:
        """What the client has said, behind the PROXY header that the target wants: in one send, for most receivers end a
        connection whose header comes in two segments. Raises OSError; a header that is not taken whole is such an error."""
        assert self.target is not None
        wanted = self.target.send_proxy
        if wanted is None:
            self.sent = sock.send(self.first, _SEND_FLAGS)
            return
        header = header_of(self.owner, wanted)
        first = self.first if self.target.tls is None else b""  # with TLS the header alone goes in clear
        self.sent = sock.send(header + first, _SEND_FLAGS) - len(header)
        if self.sent < 0:
            raise OSError(errno.EMSGSIZE, os.strerror(errno.EMSGSIZE))

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
            code = _failure(sock)
            if code:  # none: it connected, and the target has already hung up, perhaps after an answer
                self._attempt_failed(code)
                self._go_on()
                return
        elif not events & WRITE:
            return
        if not (self._introduced(sock) and self._succeed(events)):
            self._go_on()

    def _introduced(self, sock: StreamSocket) -> bool:
        """Just connected: whether the target has been sent the header that it wants."""
        assert self.target is not None
        if self.target.send_proxy is None or self.target.cut != self.cut:  # of one that was given up its owner decides
            return True
        try:
            self._send_first(sock)
        except OSError as error:
            self._attempt_failed(error.errno or errno.EIO)
            return False
        return True

    def _succeed(self, events: int) -> bool:
        sock, target = self.sock, self.target
        assert sock is not None
        assert target is not None
        if target.may_be_ourselves and _is_own_peer(sock):
            # Nobody listens there: the kernel had chosen that very port for our end, and TCP met itself (RFC 9293, 3.5).
            self._attempt_failed(errno.ECONNREFUSED)
            return False
        if target.tls is not None:
            return self._begin_tls(sock, target)
        self.sock = None
        self.owner.connected(sock, events)
        return True

    def _begin_tls(self, sock: StreamSocket, target: LiveTarget) -> bool:
        """Whether a handshake is under way or done."""
        from tcp_proxy.dataplane.relay.tls_socket import TlsSocket  # noqa: PLC0415  loaded with the first target that needs it

        try:
            self.sock = made = TlsSocket(sock, target.tls.context, False, target.tls.name(self.listening_port), target.tls)
        except ValueError as error:  # a name that is none
            self._attempt_failed(errno.EPROTO, f"no TLS: {error}")
            return False
        self.loop.attend(made.fileno(), EDGE, self._shake_on)
        return self._shake()

    def _shake_on(self, _events: int) -> None:
        if not self._shake():
            self._go_on()

    def _shake(self) -> bool:
        sock: Any = self.sock
        try:
            if sock.has_unsent:
                sock.flush()
            is_over = sock.handshake()
        except OSError as error:
            code = error.errno or errno.EPROTO
            self._attempt_failed(code, f"no TLS: {error.strerror}" if code == errno.EPROTO else "")
            return False
        if is_over:
            self.sock = None
            self.owner.connected(sock, READ if sock.has_unread else 0)
        return True

    @property
    def listening_port(self) -> int:
        """What a target is known by to its client, where that matters; 0: nothing."""
        return 0

    def _attempt_failed(self, code: int, text: str = "") -> None:
        """`text`: why, in words, where the errno does not say it."""
        self._close_socket()
        target = self.target
        assert target is not None
        self.last_code = code
        self.tried.append((target.name, text or errno_name(code)))
        self.app.connect_failed(target, code, is_local(code), self.loop.now, text)

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
        primary_queue = self.app.primary_queue
        if primary_queue is not None and primary_queue.takes(self._reason(), self.last_code):
            self._give_up()
            return False
        if self.excluded is None:
            self.excluded = set()
        again = target in self.excluded
        self.excluded.add(target)
        retries_left = self.app.retries - len(self.excluded) + 1 - again
        if self.loop.now >= self.end or retries_left <= 0:
            self._give_up()
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
            self._give_up()
            return
        reason = self.app.why_none(self.loop.now)
        if reason is not Reason.LIMIT or not self._enqueue():
            self.owner.dial_failed(reason, 0)

    def _give_up(self) -> None:
        self.owner.dial_failed(self._reason(), self.last_code)

    def _reason(self) -> Reason:
        return Reason.TARGET_RESET if attempt(self.last_code) is Attempt.RESET else Reason.CONNECT_FAILED

    def _count_retry(self) -> None:
        assert self.target is not None
        self.app.row[self.target.slot + RETRIES] += 1

    def _close_socket(self) -> None:
        sock, self.sock = self.sock, None
        if sock is not None:
            if self.loop.is_watched(sock.fileno()):
                self.loop.unwatch(sock.fileno())
            self.loop.close_after_batch(sock)


def _is_own_peer(sock: StreamSocket) -> bool:
    try:
        return bool(sock.getsockname() == sock.getpeername())
    except OSError:  # ENOTCONN: a peer that has reset already, so there was one
        return False


def _failure(sock: StreamSocket) -> int:
    """Why it is not connected; 0 if it is. What the target said before it reset is looked for without taking the error."""
    try:
        if sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT):
            return 0
    except BlockingIOError:
        pass
    except OSError as error:
        return reported(error.errno or 0)
    return reported(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
