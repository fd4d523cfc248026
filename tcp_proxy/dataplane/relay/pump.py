"""One direction of a session: bytes read from one socket and written to the other, by recv and send.

Owned by the thread of its session's loop. A pump knows two sockets and a loop, and tells its owner what happened. It is
registered as the loop's handler of the descriptor it *reads*; the opposite pump writes that same descriptor, so one
event serves both (`ready`). Registrations are edge-triggered and made once: every edge is used up or remembered.

    FLOWING ──dest full──> BLOCKED ──drained──> FLOWING          `blocked` is the one bit between them
       │ end of file          │ (its source is not read: back-pressure)
       v                      v
      ENDED (`ended`: the source has no more) ── everything written ──> DONE (`done`, owner.pump_done once)
    any state ── stop() ──> DONE, nothing is told: the destination cannot take anything any more

The Pump contract (tests/dataplane/relay/test_pump.py runs it on every kind of pump):
- bytes leave in the order they came, none twice, none lost; an end of file is reported after everything before it;
- a short read of TCP is the end of file only if EPOLLRDHUP was reported *before* that read, without an error, a hang-up
  or urgent data; it means "empty for now" only without EPOLLRDHUP; everything else reads on until 0 or an error;
- errors are told to the owner with the socket they belong to, at the call that met them, before anything else is done
  with that socket: the kernel reports an error once, and a later recv returns 0, a false end.
"""

import select
from socket import MSG_DONTWAIT, MSG_MORE, MSG_NOSIGNAL
from typing import Any, Final, Protocol, Self

from tcp_proxy.runtime.loop import EDGE, FAILED, READ, WRITE, Loop
from tcp_proxy.runtime.stream_socket import StreamSocket

CHUNK: Final = 65536  # bytes asked for in one recv; what a pump holds at most
READS_PER_TURN: Final = 4  # then the other sessions have their turn
BIG: Final = CHUNK // 2  # a read of at least this many bytes counts as one that filled the buffer
BULK_AFTER: Final = 16  # big reads in a row make a direction bulk: 0.5 to 1 MiB that came as fast as we could read

READABLE: Final = select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLPRI | FAILED
_RDHUP: Final = select.EPOLLRDHUP
_ERROR: Final = select.EPOLLERR
_NO_SHORTCUT: Final = select.EPOLLPRI | FAILED
# What of an event says whether a short read of TCP is the end, or all for now: one comparison for each.
_AT_END: Final = _RDHUP | _NO_SHORTCUT
_FOR_NOW: Final = READ | _NO_SHORTCUT
DONTWAIT: Final = int(MSG_DONTWAIT)  # plain integers: a TlsSocket looks at them, 1 us for each that is a member of an enum
# Said as objects: a number of C is made one for each call.
_READ_FLAGS: Final[Any] = DONTWAIT
_SEND_FLAGS: Final[Any] = int(MSG_DONTWAIT | MSG_NOSIGNAL)
# A shutdown or close follows at once: one packet with its FIN.
_LAST_FLAGS: Final[Any] = int(MSG_DONTWAIT | MSG_NOSIGNAL | MSG_MORE)

assert READABLE & READ
assert not READABLE & WRITE


class Owner(Protocol):
    """Whoever made the two pumps: a session. Any of these calls may stop both pumps."""

    last: float  # when a pump had an event last; the pumps set it

    def pump_done(self, pump: "Pump") -> Any: ...
    def read_failed(self, pump: "Pump", code: int) -> Any: ...
    def write_failed(self, pump: "Pump", code: int) -> Any: ...
    def source_failed(self, pump: "Pump") -> Any: ...
    def bulk(self, pump: "Pump") -> bool: ...
    def emptied(self, pump: "Pump") -> Any: ...


class Pump:
    """Copies. A subclass overrides how bytes are moved (`fill`, `flush`), what it holds meanwhile (`release`, `retire`,
    `is_movable`, `delivered`), and what else an event tells it (`ready`); it keeps the contract above."""

    __slots__ = (
        "armed", "blocked", "dest", "done", "ended", "failed", "full", "loop", "moved", "opposite", "owner", "pending",
        "queued", "source", "tcp",
    )  # fmt: skip
    __deletable__ = ("opposite",)  # by its session's end, also where this is compiled
    chunk = CHUNK  # a subclass may ask for more; then that is what it holds at most
    opposite: "Pump"  # the other direction of the same session; set by whoever makes the two, before anything is read

    def __init__(self, loop: Loop, owner: Owner, source: StreamSocket, dest: StreamSocket, tcp: bool) -> None:
        """`tcp`: whether the source is TCP (UNIX sockets cut reads at control messages, so no shortcut for them)."""
        self.loop = loop
        self.owner = owner
        self.source = source
        self.dest = dest
        self.tcp = tcp
        self.pending: bytes | memoryview = b""
        self.blocked = False
        self.armed = False  # the loop watches `dest` for room to write: asked for when it is first needed
        self.ended = False
        self.done = False
        self.failed = False  # epoll has reported an error of the source; it will not do so again
        self.queued = False  # `resume` is due at the end of this round
        self.moved = 0
        self.full = 0

    def take_over(self, old: "Pump") -> Self:
        """Go on where `old` stopped, with what it has read and not written yet."""
        self.pending, self.blocked, self.ended, self.done = old.pending, old.blocked, old.ended, old.done
        self.failed, self.armed = old.failed, True  # a session that changes its thread is watched for everything there
        self.moved = old.moved
        return self

    def __repr__(self) -> str:
        state = "done" if self.done else "ended" if self.ended else "blocked" if self.blocked else "flowing"
        return f"<{type(self).__name__} {state} moved={self.moved} pending={len(self.pending)}>"

    def ready(self, events: int) -> None:
        """What the loop calls for the descriptor of `source`."""
        owner = self.owner
        owner.last = self.loop.now
        if events & WRITE and self.opposite.blocked:
            self.opposite.flush()
        if events & READABLE:
            if events & _ERROR:
                self.failed = True
            if not self.blocked and not self.ended:
                if not self.queued:
                    self.fill(events)
            elif self.failed:  # nobody is about to read, so nobody would hear of it
                owner.source_failed(self)

    def fill(self, events: int = 0) -> None:
        """Read and pass on until the source is empty, ended or failed, the destination is full, or the turn is over."""
        source, dest, chunk = self.source, self.dest, self.chunk
        turns = READS_PER_TURN
        while turns:
            turns -= 1
            try:
                data = source.recv(chunk, _READ_FLAGS)
            except BlockingIOError:
                return
            except OSError as error:
                self.owner.read_failed(self, error.errno or 0)
                return
            size = len(data)
            if not size:
                self._end()
                return
            self.moved += size
            last = events & _AT_END == _RDHUP and size < chunk and self.tcp
            try:
                sent = dest.send(data, _LAST_FLAGS if last else _SEND_FLAGS)
            except BlockingIOError:
                sent = 0
            except OSError as error:
                self.moved -= size
                self.owner.write_failed(self, error.errno or 0)
                return
            if sent < size:
                self.pending = memoryview(data)[sent:]
                self.block()
            if last:
                self._end()
                return
            self.full = self.full + 1 if size >= BIG else 0
            if size < chunk and events & _FOR_NOW == READ and self.tcp:
                return
            if self.full >= BULK_AFTER and self.owner.bulk(self):
                return  # the session moves to another thread at the end of this turn and goes on there
            if self.blocked:
                return
        self._go_on_later()

    def begin(self, first: bytes, sent: int) -> None:
        """Go on from what was read before there was a pump; `sent` bytes of it are written."""
        self.moved = len(first)
        if sent < len(first):
            self.pending = memoryview(first)[sent:]
            if not self.write() and not self.done:
                self.block()

    def block(self) -> None:
        """The destination is full; the loop will say when it has room."""
        self.blocked = True
        if not self.armed:
            self.armed = True
            self.loop.rewatch(self.dest.fileno(), EDGE)

    def flush(self) -> None:
        """Write what waits; when all is written, end or read on."""
        if self.write():
            self._flushed()

    def write(self) -> bool:
        """Whether all that waits was written; if not, the destination is full or the owner has been told of its failure."""
        try:
            while self.pending:
                sent = self.dest.send(self.pending, _SEND_FLAGS)
                self.pending = self.pending[sent:]
        except BlockingIOError:
            return False
        except OSError as error:
            self.owner.write_failed(self, error.errno or 0)
            return False
        self.pending = b""
        return True

    def resume(self, _events: int = 0) -> None:
        """Go on after the turn of others, or after a hand-over: the edges seen so far say nothing any more."""
        self.queued = False
        if self.done:
            return
        if self.blocked:
            self.flush()
        elif not self.ended:
            self.fill()

    def expect_no_more(self) -> None:
        """The source is given up. What waits for a destination that is full is still written, and ends in `pump_done`."""
        self.ended = True

    def stop(self) -> None:
        """Nothing more is read or written; what waits is thrown away."""
        self.ended = self.done = True
        self.blocked = False
        self.moved -= len(self.pending)
        self.pending = b""
        self.release()

    @property
    def delivered(self) -> int:
        """Bytes that the destination's socket has taken."""
        return self.moved - len(self.pending)

    @property
    def is_movable(self) -> bool:
        """Nothing of this direction is where only this thread can reach it."""
        return True

    def release(self) -> None:
        """Give back what is held beside the sockets: nothing, here."""

    def retire(self) -> None:
        """Another pump takes this direction over, in another thread; whatever still calls this one must find it done."""
        self.stop()

    def _go_on_later(self) -> None:
        """The others have their turn first. There may be more to read, and no edge will say so."""
        if not self.queued:
            self.queued = True
            self.loop.call_again(self.resume)

    def _end(self) -> None:
        self.ended = True
        if self.failed:  # FIN and RST came together: after a FIN, recv says 0 and hides the error
            self.owner.source_failed(self)
        if not self.blocked and not self.done:
            self.done = True
            self.owner.pump_done(self)

    def _flushed(self) -> None:
        self.blocked = False
        if self.ended:
            self.done = True
            self.owner.pump_done(self)
        else:
            self.fill()
